import { readdir, readFile } from 'node:fs/promises';
import { brotliCompressSync, constants } from 'node:zlib';

import { expect, test } from '../src/fixtures.js';
import { PAGE } from '../src/places.js';

/** Bytes of all scripts of the page, web worker included, WebAssembly not, as the edge worker compresses them. */
const SCRIPT_BYTES = 150_000;
/** The binary that a browser loads, compressed. */
const WASM_BYTES = 1_200_000;

/** Compressed sizes of the page's files with this ending. */
async function sizes(ending: string): Promise<number[]> {
  const names = (await readdir(PAGE, { recursive: true })).filter((it) => it.endsWith(ending));
  const compressed = async (name: string) =>
    brotliCompressSync(await readFile(`${PAGE}/${name}`), { params: { [constants.BROTLI_PARAM_QUALITY]: 9 } }).length;
  return Promise.all(names.map(compressed));
}

test('the scripts of the page stay within their budget', async () => {
  const scripts = await sizes('.js');
  expect(scripts.length).toBeGreaterThan(0);
  expect(scripts.reduce((sum, it) => sum + it, 0)).toBeLessThanOrEqual(SCRIPT_BYTES);
});

test('the WebAssembly of the page stays within its budget', async () => {
  const binaries = await sizes('.wasm');
  // With SIMD, and with relaxed SIMD: a browser loads one of them.
  expect(binaries).toHaveLength(2);
  expect(Math.max(...binaries)).toBeLessThanOrEqual(WASM_BYTES);
});
