import { cp, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import type { Page, Route } from '@playwright/test';

import { startEdge } from '../src/edge.js';
import { errorsOf, expect, open, test } from '../src/fixtures.js';
import { PACKAGE, PAGE } from '../src/places.js';
import type { Series } from '../src/series.js';

/** What the browser itself logs of requests that fail. */
const NETWORK = /Failed to load resource|WebSocket connection to/;

/** And of those that the page's policy forbids. */
const FORBIDDEN = /Content Security Policy|Failed to fetch/;

/** Longer than a download is waited for of which nothing arrives. */
const GIVEN_UP_MS = 30_000;

/** The parts of a manifest that are used here. */
interface Manifest {
  split_points: string[];
  /** The SHA-256 of each segment, and more. */
  segments: [string, ...unknown[]][];
  /** Variants name their segments by place, and for each split point how many of them lie before it. */
  variants: { name: string; segments: number[]; cuts: (number | null)[] }[];
  operating_points: { variant: string; split: string }[];
}

/** The page must say so, and so that one can read it. */
async function expectError(page: Page, text: RegExp): Promise<void> {
  const error = page.locator('#error');
  await expect(error).toBeVisible();
  await expect(error).toHaveText(text);
  await expect(error).toHaveAttribute('role', 'alert');
}

/** Lets the page have the manifest in another version than the edge worker does. */
async function manifestBecomes(page: Page, change: (text: string) => string): Promise<void> {
  await page.route('**/manifest.json', async (route) => {
    const response = await route.fetch();
    await route.fulfill({ response, body: change(await response.text()) });
  });
}

test.describe('a camera that is refused', () => {
  test.use({ permissions: ['geolocation'] });

  test('is told with the way out', async ({ page, edge }) => {
    await open(page, edge);
    await expectError(page, /camera was refused.*Allow it/);
  });
});

test.describe('files of the edge worker', () => {
  test.use({ expected: [NETWORK] });

  test('a missing manifest is told', async ({ page, edge }) => {
    await page.route('**/manifest.json', (route) => route.fulfill({ status: 404 }));
    await open(page, edge);
    await expectError(page, /manifest.*404/);
  });

  test('an edge worker that cannot be reached is told', async ({ page, edge }) => {
    await page.route('**/v1/**', (route) => route.abort('connectionrefused'));
    await open(page, edge);
    await expectError(page, /cannot be reached.*edge worker runs/);
  });

  test('a damaged segment is told', async ({ page, edge, series }) => {
    await page.route('**/segments/**', damage);
    const point = series.points.findIndex((it) => it.split === 'output');
    await open(page, edge, { point });
    await expectError(page, /damaged/);
    // It is asked for again and again, perhaps right now.
    await page.unrouteAll({ behavior: 'ignoreErrors' });
  });

  test('a segment that is longer than the manifest says is told', async ({ page, edge, series }) => {
    await page.route('**/segments/**', async (route) => {
      const response = await route.fetch();
      await route.fulfill({ response, body: Buffer.concat([await response.body(), Buffer.alloc(1)]) });
    });
    const point = series.points.findIndex((it) => it.split === 'output');
    await open(page, edge, { point });
    await expectError(page, /longer than the \d+ bytes/);
    await page.unrouteAll({ behavior: 'ignoreErrors' });
  });

  test('a segment that is missing is told', async ({ page, edge, series }) => {
    await page.route('**/segments/**', (route) => route.fulfill({ status: 404 }));
    const point = series.points.findIndex((it) => it.split === 'output');
    await open(page, edge, { point });
    await expectError(page, /segments.*404/);
  });

  test('a damaged or missing codec is told', async ({ page, edge, series }) => {
    const point = series.points.findIndex((it) => it.split !== 'input' && it.split !== 'output');
    await page.route('**/codecs/**', damage);
    await open(page, edge, { point });
    await expectError(page, /damaged/);
    await page.unrouteAll({ behavior: 'ignoreErrors' });
    await page.route('**/codecs/**', (route) => route.fulfill({ status: 404 }));
    await open(page, edge, { point });
    await expectError(page, /codecs.*404/);
  });

  test('a segment that is missing does not keep others from being used', async ({ page, edge, series, results }) => {
    const { point, missing } = await ownSegment(series);
    await page.route(`**/segments/${missing}*`, (route) => route.fulfill({ status: 404 }));
    await open(page, edge, { point });
    await expectError(page, /segments.*404/);
    const local = [...series.points.keys()].filter((it) => series.points[it]?.split === 'output');
    await results.take({ count: 5, points: local });
  });

  test('a manifest of another format is told', async ({ page, edge }) => {
    await manifestBecomes(page, (it) => it.replace(/"format":\s*\d+/, '"format": 99'));
    await open(page, edge);
    await expectError(page, /format 99.*one release/);
  });

  test('a manifest that is none is told', async ({ page, edge }) => {
    await manifestBecomes(page, (it) => it.slice(0, -20));
    await open(page, edge);
    await expectError(page, /manifest cannot be read/);
  });

  test('a manifest that is older than the edge worker is asked for once more', async ({ page, edge, results }) => {
    let isOld = true;
    await page.route('**/manifest.json', async (route) => {
      const response = await route.fetch();
      await route.fulfill({ response, body: `${await response.text()}${isOld ? ' ' : ''}` });
      isOld = false;
    });
    await open(page, edge, { source: 'sample' });
    await results.take({ count: 1 });
    await expect(page.locator('#state')).toHaveText('connected');
    await expect(page.locator('#error')).toBeEmpty();
  });

  test('another manifest than the edge worker has leaves labels flowing', async ({ page, edge, series, results }) => {
    await manifestBecomes(page, (it) => `${it} `);
    await open(page, edge, { source: 'sample' });
    const local = [...series.points.keys()].filter((it) => series.points[it]?.split === 'output');
    await results.take({ count: 5, points: local, withinMs: 30_000 });
  });

  test('another manifest than the edge worker has is told', async ({ page, edge }) => {
    await manifestBecomes(page, (it) => `${it} `);
    await open(page, edge);
    await expectError(page, /another manifest.*anew|reload/);
  });
});

test('a link on which nothing arrives is told', async ({ page, edge, context }) => {
  const stalled = async (page: Page, files: string, text: RegExp) => {
    // Never answered.
    await page.route(files, () => {});
    await open(page, edge);
    await expect(page.locator('#error')).toHaveText(text, { timeout: GIVEN_UP_MS });
    await page.unrouteAll({ behavior: 'ignoreErrors' });
  };
  await Promise.all([
    stalled(page, '**/*.wasm', /program cannot be loaded: nothing arrives/),
    stalled(await context.newPage(), '**/manifest.json', /manifest.*: nothing arrives/),
  ]);
});

test.describe('a download that is cut off', () => {
  test.use({ expected: [NETWORK] });

  for (const file of ['**/*.wasm', '**/manifest.json']) {
    test(`of ${file} is begun again without a word`, async ({ page, edge, results }) => {
      await cutOff(page, file, 1);
      await open(page, edge, { source: 'sample' });
      const errors = await errorsOf(page);
      await results.take({ count: 3 });
      expect(await errors()).toEqual([]);
    });

    test(`of ${file} again and again is told, and tried again by itself`, async ({ page, edge, results }) => {
      await cutOff(page, file, 3);
      await open(page, edge, { source: 'sample' });
      await expectError(page, /cannot be loaded.*tries again by itself/);
      await results.take({ count: 3, withinMs: 30_000 });
      await expect(page.locator('#error')).toBeEmpty();
    });
  }
});

/** Breaks off the download of a file so many times. */
async function cutOff(page: Page, file: string, times: number): Promise<void> {
  let left = times;
  await page.route(file, (route) => {
    left -= 1;
    return left >= 0 ? route.abort('connectionreset') : route.continue();
  });
}

/** An operating point whose head has a segment that is part of nothing that runs on the device alone, and the SHA-256 of that. */
async function ownSegment({ folder }: Series): Promise<{ point: number; missing: string }> {
  const manifest: Manifest = JSON.parse(await readFile(`${folder}/manifest.json`, 'utf8'));
  const variants = new Map(manifest.variants.map((it) => [it.name, it]));
  const local = manifest.operating_points.filter((it) => it.split === 'output');
  const shared = new Set(local.flatMap((it) => variants.get(it.variant)?.segments ?? []));
  for (const [point, it] of manifest.operating_points.entries()) {
    const variant = variants.get(it.variant);
    const length = variant?.cuts[manifest.split_points.indexOf(it.split)] ?? 0;
    const own = variant?.segments.slice(0, length).find((it) => !shared.has(it));
    const missing = own === undefined ? undefined : manifest.segments[own]?.[0];
    if (missing) return { point, missing };
  }
  throw new Error('all heads of this series are parts of networks that run on the device alone');
}

/** Flips one bit in the middle. */
async function damage(route: Route): Promise<void> {
  const response = await route.fetch();
  const body = await response.body();
  body.writeUInt8(body.readUInt8(body.length >> 1) ^ 1, body.length >> 1);
  await route.fulfill({ response, body });
}

test.describe('an edge worker of another origin', () => {
  test.use({ expected: [FORBIDDEN] });

  test('is told with what its operator can do', async ({ page, edge, series }) => {
    const other = await startEdge(series.folder);
    try {
      const { origin } = new URL(other.url);
      await page.goto(new URL(`?source=sample&edge=${other.url}`, edge.url).href);
      await expectError(
        page,
        new RegExp(`open ${origin} instead.*connect-src.*--allow-origin ${new URL(edge.url).origin}`),
      );
    } finally {
      await other.kill();
    }
  });
});

test.describe('a browser that lacks something', () => {
  for (const [what, script, text] of [
    ['web workers', 'delete globalThis.Worker', /web workers.*current version/],
    ['WebAssembly', 'delete globalThis.WebAssembly', /WebAssembly.*current version/],
    ['SIMD', 'WebAssembly.validate = () => false', /SIMD.*current version/],
    ['drawing in a web worker', 'delete globalThis.OffscreenCanvas', /draw in a web worker.*current version/],
  ] as const) {
    test(`${what} is told`, async ({ page, edge }) => {
      await page.addInitScript(script);
      await open(page, edge);
      await expectError(page, text);
    });
  }
});

test('a file that is no picture is told, and the next one is shown', async ({ page, edge, results }) => {
  await open(page, edge, { source: 'sample' });
  await results.take({ count: 1 });
  const picture = await page.locator('#picture').screenshot();
  await page.setInputFiles('#file', { name: 'none.png', mimeType: 'image/png', buffer: Buffer.from('no picture') });
  await expectError(page, /none\.png cannot be read.*choose/);
  await page.setInputFiles('#file', { name: 'picture.png', mimeType: 'image/png', buffer: picture });
  await results.next();
  await expect(page.locator('#error')).toBeEmpty();
});

test.describe('a web worker for connections that cannot be loaded', () => {
  test.use({ expected: [NETWORK] });

  test('is told, and tried again while frames run on the device', async ({ page, series, results }) => {
    // A file that is not served: Playwright sees no request for the script of a web worker that another one starts.
    const web = await mkdtemp(join(tmpdir(), 'page-'));
    await cp(PAGE, web, { recursive: true, filter: (it) => !it.includes('socket-worker') });
    let edge = await startEdge(series.folder, { web });
    try {
      await open(page, edge);
      await expectError(page, /holds the connection failed/);
      const local = [...series.points.keys()].filter((it) => series.points[it]?.split === 'output');
      await results.take({ count: 5, points: local });
      await expect(page.locator('#state')).toHaveText(/offline|connecting/);
      await edge.kill();
      edge = await startEdge(series.folder, { listen: edge.address });
      await expect(page.locator('#state')).toHaveText('connected', { timeout: 30_000 });
    } finally {
      await edge.kill();
      await rm(web, { recursive: true });
    }
  });
});

test('a picture that cannot be taken is told, until one can', async ({ page, edge, results }) => {
  await open(page, edge, { source: 'sample' });
  await results.take({ count: 1 });
  const resize = (side: number) =>
    page.evaluate((side) => {
      const picture = document.querySelector<HTMLCanvasElement>('canvas#picture');
      if (picture) picture.width = side;
    }, side);
  await resize(0);
  await expectError(page, /no picture can be taken/i);
  await resize(320);
  await results.next();
  await expect(page.locator('#error')).toBeEmpty({ timeout: 10_000 });
});

test('what is wrong with every frame is told now and then', async () => {
  const { Repeats } = await import(`${PACKAGE}/dist/repeats.js`);
  const repeats = new Repeats();
  const isNew = (code: string, now: number) => repeats.isNew({ code, message: 'no capacity' }, now);
  expect(isNew('busy', 1000)).toBe(true);
  for (let now = 1000; now < 6000; now += 100) expect(isNew('busy', now)).toBe(false);
  expect(isNew('no-credit', 5999)).toBe(true);
  expect(isNew('busy', 6000)).toBe(true);
  expect(isNew('busy', 6001)).toBe(false);
});
