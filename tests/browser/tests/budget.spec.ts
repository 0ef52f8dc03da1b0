import { readdir, readFile } from 'node:fs/promises';
import { brotliCompressSync, constants } from 'node:zlib';

import { expect, test } from '../src/fixtures.js';
import { PAGE } from '../src/places.js';

/** Bytes of all scripts of the page, web worker included, WebAssembly not, as the edge worker compresses them. */
const SCRIPT_BYTES = 150_000;

/** Compressed sizes of the page's scripts. */
async function sizes(): Promise<number[]> {
  const names = (await readdir(PAGE, { recursive: true })).filter((it) => it.endsWith('.js'));
  const compressed = async (name: string) =>
    brotliCompressSync(await readFile(`${PAGE}/${name}`), { params: { [constants.BROTLI_PARAM_QUALITY]: 9 } }).length;
  return Promise.all(names.map(compressed));
}

test('the scripts of the page stay within their budget', async () => {
  const scripts = await sizes();
  expect(scripts.length).toBeGreaterThan(0);
  expect(scripts.reduce((sum, it) => sum + it, 0)).toBeLessThanOrEqual(SCRIPT_BYTES);
});
