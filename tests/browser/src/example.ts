import { cp, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { startEdge } from './edge.js';
import { PACKAGE, place } from './places.js';
import type { Server } from './programs.js';
import type { Series } from './series.js';

/** Files of the example. */
export const EXAMPLE = ['index.html', 'app.js'];

/** Serves the example without a bundler, with the package beside it. */
export async function withExample(
  series: Series,
  use: (edge: Server) => Promise<void>,
  args: string[] = [],
): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'plain-'));
  for (const file of EXAMPLE) await cp(`${place('web/examples/plain')}/${file}`, `${folder}/${file}`);
  for (const part of ['dist', 'wasm']) {
    await cp(`${PACKAGE}/${part}`, `${folder}/split-inference/${part}`, { recursive: true });
  }
  const edge = await startEdge(series.folder, { web: folder, args });
  try {
    await use(edge);
  } finally {
    await edge.kill();
    await rm(folder, { recursive: true });
  }
}
