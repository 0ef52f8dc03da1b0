import { readdir, readFile } from 'node:fs/promises';
import { promisify } from 'node:util';
import { brotliCompress, constants } from 'node:zlib';

import { expect, open, test } from '../src/fixtures.js';
import { PAGE } from '../src/places.js';

const compress = promisify(brotliCompress);

/** Bytes of all scripts of the page, web worker included, WebAssembly not, as the edge worker compresses them. */
const SCRIPT_BYTES = 150_000;
/** Bytes of the largest of the WebAssembly binaries, compressed as well as can be. A browser downloads one of them. */
const BINARY_BYTES = 1_200_000;

/** Compressed sizes of the page's files whose names end like this. */
async function sizes(ending: string, quality: number): Promise<number[]> {
  const names = (await readdir(PAGE, { recursive: true })).filter((it) => it.endsWith(ending));
  const params = { [constants.BROTLI_PARAM_QUALITY]: quality };
  return Promise.all(names.map(async (it) => (await compress(await readFile(`${PAGE}/${it}`), { params })).length));
}

test('the scripts of the page stay within their budget', async () => {
  const scripts = await sizes('.js', 9);
  expect(scripts.length).toBeGreaterThan(0);
  expect(scripts.reduce((sum, it) => sum + it, 0)).toBeLessThanOrEqual(SCRIPT_BYTES);
});

test('the WebAssembly binaries stay within their budget', async () => {
  test.slow();
  const binaries = await sizes('.wasm', constants.BROTLI_MAX_QUALITY);
  expect(binaries.length).toBeGreaterThan(0);
  expect(Math.max(...binaries)).toBeLessThanOrEqual(BINARY_BYTES);
});

/** Longest time that a script of the page may hold its thread, slowed down this many times: more is felt. */
const SCRIPT_MS = 100;
const SLOWDOWN = 6;
const FRAMES = 60;
/** How many scripts may take longer: now and then, other programs take the processor away in the middle of one. */
const INTERRUPTED = FRAMES / 10;

interface LongFrame extends PerformanceEntry {
  scripts: { duration: number; invoker: string }[];
}

test('no script holds a slow page up while a camera runs', async ({ page, edge, results }) => {
  await open(page, edge);
  await results.take({ count: 10 });
  const session = await page.context().newCDPSession(page);
  await session.send('Emulation.setCPUThrottlingRate', { rate: SLOWDOWN });
  await page.evaluate(() => {
    globalThis.scripts = [];
    new PerformanceObserver((list) => {
      for (const it of list.getEntries() as LongFrame[]) globalThis.scripts.push(...it.scripts);
    }).observe({ type: 'long-animation-frame' });
  });
  await results.next({ count: FRAMES, withinMs: 45_000 });
  const scripts = await page.evaluate(() => globalThis.scripts.map((it) => ({ ms: it.duration, invoker: it.invoker })));
  const long = scripts.filter((it) => it.ms > SCRIPT_MS);
  expect(long.length, JSON.stringify(long)).toBeLessThanOrEqual(INTERRUPTED);
});

declare global {
  /** Scripts of frames that took long. */
  var scripts: LongFrame['scripts'];
}
