import { mkdir } from 'node:fs/promises';

import { CLIP, HEAVY, MADE, TOY } from './places.js';
import { run } from './programs.js';

/** Makes what the tests need. */
export default async function setup(): Promise<void> {
  await mkdir(MADE, { recursive: true });
  await Promise.all([
    // Slow enough that a slow machine is idle between two frames: only then does the page see when an answer arrives, and can judge a fast link.
    run('prepare', ['clip', '--to', CLIP, '--frames', '60', '--rate', '10']),
    run('toy', ['--to', TOY]),
    run('toy', ['--to', HEAVY, '--width', '256']),
  ]);
}
