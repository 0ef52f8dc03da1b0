import { readFile } from 'node:fs/promises';

import { EXAMPLE, withExample } from '../src/example.js';
import { expect, test } from '../src/fixtures.js';
import { PACKAGE, place } from '../src/places.js';
import { recordClip } from '../src/recording.js';

/** Everything that others may build on: taking a name away breaks them. */
const VALUES = ['SplitClient', 'SplitError'];
const TYPES = [
  'ClassProbability',
  'ClientEvents',
  'ConnectOptions',
  'ConnectionState',
  'Diagnosis',
  'ErrorCode',
  'FrameSource',
  'Goal',
  'InferOptions',
  'LinkThrottle',
  'OperatingPoint',
  'Prediction',
  'Problem',
  'Progress',
  'Result',
  'Selection',
  'Series',
  'SeriesSummary',
  'StateChange',
  'StreamOptions',
  'StreamSource',
  'Throttle',
  'Timings',
];
/** What a client can do. */
const MEMBERS = [
  'close',
  'diagnose',
  'infer',
  'on',
  'reconnect',
  'selection',
  'series',
  'seriesList',
  'setGoal',
  'setThrottle',
  'state',
  'stream',
  'throttle',
];

test('the package exports these names and no others', async () => {
  const exported = await import(`${PACKAGE}/dist/index.js`);
  expect(Object.keys(exported).sort()).toEqual(VALUES);
  const members = Object.getOwnPropertyNames(exported.SplitClient.prototype);
  expect(members.filter((it) => it !== 'constructor').sort()).toEqual(MEMBERS);
  expect(Object.getOwnPropertyNames(exported.SplitClient)).toContain('connect');

  const declarations = await readFile(`${PACKAGE}/dist/index.d.ts`, 'utf8');
  const names = [...declarations.matchAll(/^export (?:type )?\{([^}]*)\}/gm)]
    .flatMap((it) => (it[1] ?? '').split(','))
    .map((it) => it.replace(/^\s*type /, '').trim())
    .filter((it) => it !== '');
  expect(names.sort()).toEqual([...TYPES, ...VALUES].sort());
});

test('the example without a bundler recognises a file and the camera', async ({ page, series }) => {
  await withExample(series, async ({ url }) => {
    await page.goto(url);
    const label = page.locator('#label');
    await expect(label).toHaveText('Ready');
    const picture = await page.screenshot();
    await page.setInputFiles('#file', { name: 'picture.png', mimeType: 'image/png', buffer: picture });
    const recognised = new RegExp(`^(${series.classes.join('|')}), \\d+ %, in`);
    await expect(label).toHaveText(recognised);
    await page.reload();
    await expect(label).toHaveText('Ready');
    await page.click('#start');
    await expect(label).toHaveText(recognised);
  });
});

test('a stream ends with its video, also when that is over already', async ({ page, series }) => {
  await withExample(series, async ({ url }) => {
    await page.goto(url);
    const clip = await page.evaluate(recordClip);
    const counts = await page.evaluate(async (clip) => {
      const { SplitClient } = await import('/split-inference/dist/index.js' as string);
      const client = await SplitClient.connect();
      const video = document.createElement('video');
      video.muted = true;
      video.src = URL.createObjectURL(new Blob([new Uint8Array(clip)]));
      const count = async () => {
        let results = 0;
        for await (const _ of client.stream(video)) results += 1;
        return results;
      };
      const [played] = await Promise.all([count(), video.play()]);
      return { played, ended: video.ended, over: await count() };
    }, clip);
    expect(counts).toEqual({ played: expect.any(Number), ended: true, over: 0 });
    expect(counts.played).toBeGreaterThan(0);
  });
});

test('a picture gives the same pixels whichever way it comes', async ({ page, series }) => {
  await withExample(series, async ({ url }) => {
    await page.goto(url);
    const seen = await page.evaluate(async () => {
      const { SplitClient } = await import('/split-inference/dist/index.js' as string);
      const client = await SplitClient.connect({ pixels: true });
      const canvas = document.createElement('canvas');
      [canvas.width, canvas.height] = [300, 200];
      const context = canvas.getContext('2d') as CanvasRenderingContext2D;
      for (let x = 0; x < 300; x += 10) {
        context.fillStyle = `hsl(${x}, 80%, ${20 + x / 6}%)`;
        context.fillRect(x, x / 3, 10, 200);
      }
      const sources = {
        canvas,
        bitmap: await createImageBitmap(canvas),
        data: context.getImageData(0, 0, 300, 200),
        frame: new VideoFrame(canvas, { timestamp: 0 }),
      };
      const pixels: Record<string, number[]> = {};
      for (const [name, source] of Object.entries(sources))
        pixels[name] = [...(await client.infer(source)).pixels.data];
      client.close();
      return pixels;
    });
    const { canvas = [], ...others } = seen;
    expect(new Set(canvas).size).toBeGreaterThan(10);
    for (const pixels of Object.values(others)) expect(pixels).toEqual(canvas);
  });
});

test("a camera's frame gives the pixels that the browser would draw", async ({ page, series }) => {
  await withExample(series, async ({ url }) => {
    await page.goto(url);
    const differences = await page.evaluate(async () => {
      const { SplitClient } = await import('/split-inference/dist/index.js' as string);
      const client = await SplitClient.connect({ pixels: true });
      const found: Record<string, number> = {};
      for (const format of ['I420', 'NV12'] as const) {
        for (const matrix of ['smpte170m', 'bt709'] as const) {
          for (const fullRange of [false, true]) {
            const frame = card(format, { matrix, primaries: 'bt709', transfer: 'bt709', fullRange });
            const drawn = (await client.infer(await createImageBitmap(frame))).pixels.data;
            const scaled = (await client.infer(frame)).pixels.data;
            const differs = drawn.map((it: number, at: number) => Math.abs(it - scaled[at]));
            found[`${format} ${matrix} ${fullRange}`] = Math.max(...differs);
          }
        }
      }
      client.close();
      return found;

      /** Brightness that grows to the right, colours that change downwards, within what every range allows. */
      function card(format: 'I420' | 'NV12', colorSpace: VideoColorSpaceInit): VideoFrame {
        const [width, height] = [320, 240];
        const y = Array.from({ length: width * height }, (_, at) => 60 + (at % width) / 2.5);
        const half = Array.from({ length: (width / 2) * (height / 2) }, (_, at) => Math.floor(at / (width / 2)));
        const [u, v] = [half.map((row) => 100 + row / 2), half.map((row) => 150 - row / 3)];
        const colour = format === 'I420' ? [...u, ...v] : u.flatMap((it, at) => [it, v[at] ?? 0]);
        const data = Uint8Array.from([...y, ...colour]);
        return new VideoFrame(data, { format, codedWidth: width, codedHeight: height, timestamp: 0, colorSpace });
      }
    });
    // Chromium's own arithmetic of BT.709 is that coarse; of BT.601, two are seen.
    for (const [what, difference] of Object.entries(differences)) expect(difference, what).toBeLessThanOrEqual(5);
  });
});

test('the example has less than 40 lines', async () => {
  const files = EXAMPLE.map((it) => readFile(`${place('web/examples/plain')}/${it}`, 'utf8'));
  const lines = (await Promise.all(files)).flatMap((it) => it.trimEnd().split('\n'));
  expect(lines.length).toBeLessThan(40);
});
