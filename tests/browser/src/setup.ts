import { mkdir } from 'node:fs/promises';

import { CLIP, HEAVY, MADE, TOY } from './places.js';
import { run } from './programs.js';

/** Makes what the tests need. */
export default async function setup(): Promise<void> {
  await mkdir(MADE, { recursive: true });
  await Promise.all([
    // Slow enough for a slow machine to keep up with.
    run('prepare', ['clip', '--to', CLIP, '--frames', '60', '--rate', '10']),
    run('toy', ['--to', TOY]),
    run('toy', ['--to', HEAVY, '--width', '256']),
  ]);
}
