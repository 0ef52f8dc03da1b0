import { withExample } from '../src/example.js';
import { FIREFOX, withFirefox } from '../src/firefox.js';
import { expect, test } from '../src/fixtures.js';

/** One result of pixels, and why there is none of a canvas, if there is none. */
async function results() {
  const { SplitClient } = await import('/split-inference/dist/index.js' as string);
  const client = await SplitClient.connect();
  const { timings } = await client.infer(new ImageData(32, 32));
  const canvas = document.createElement('canvas');
  canvas.getContext('2d')?.fillRect(0, 0, 9, 9);
  const told = await client.infer(canvas).then(
    () => 'a result',
    ({ code, message }: { code: string; message: string }) => `${code}: ${message}`,
  );
  client.close();
  return { timings, told };
}

test('a page that has slept for an hour measures as before', async ({ page, series }) => {
  await page.addInitScript(() => {
    const origin = performance.timeOrigin - 3_600_000;
    Object.defineProperty(Performance.prototype, 'timeOrigin', { get: () => origin });
  });
  await withExample(series, async ({ url }) => {
    await page.goto(url);
    const { timings, told } = await page.evaluate(results);
    expect(told).toBe('a result');
    const { total, ...parts } = timings as Record<string, number>;
    for (const [part, it] of Object.entries(parts)) expect(it, part).toBeGreaterThanOrEqual(0);
    expect(total).toBeLessThan(10_000);
    const sum = Object.values(parts).reduce((sum, it) => sum + it, 0);
    expect(sum).toBeLessThanOrEqual((total ?? 0) + 1);
  });
});

test('a browser that gives noise for pictures is told, and pixels are still taken', async ({ series }) => {
  test.skip(!FIREFOX, 'FIREFOX names no Firefox to try');
  await withExample(series, async ({ url }) => {
    await withFirefox(
      async (page) => {
        await page.goto(url);
        const { timings, told } = await page.evaluate(results);
        expect(told).toMatch(/^canvas-blocked: .*fingerprinting/);
        for (const [part, it] of Object.entries(timings)) expect(it, part).toBeGreaterThanOrEqual(0);
      },
      { 'privacy.resistFingerprinting': true },
    );
  });
});

test('where canvases give noise, pictures are read without them and none is sent as an image', async ({
  page,
  series,
}) => {
  await page.route('**/dist/worker.js', async (route) => {
    const response = await route.fetch();
    await route.fulfill({ response, body: `${await response.text()}\n;(${addNoise})();` });
  });
  await withExample(series, async ({ url }) => {
    await page.goto(url);
    const { frame, bitmap, grey, planes, data, dropped } = await page.evaluate(async () => {
      const { SplitClient } = await import('/split-inference/dist/index.js' as string);
      const client = await SplitClient.connect({ pixels: true });
      const canvas = document.createElement('canvas');
      [canvas.width, canvas.height] = [300, 200];
      const context = canvas.getContext('2d', { alpha: false }) as CanvasRenderingContext2D;
      for (let x = 0; x < 300; x += 10) {
        context.fillStyle = `hsl(${x}, 80%, ${20 + x / 6}%)`;
        context.fillRect(x, x / 3, 10, 200);
      }
      const pixels = async (source: unknown) => [...(await client.infer(source)).pixels.data];
      // A camera's frame, of levels that rise to the right.
      const [width, height] = [64, 48];
      const levels = Array.from({ length: width * height }, (_, at) => 4 * (at % width));
      const plain = new ImageData(width, height);
      for (const [at, it] of levels.entries()) plain.data.set([it, it, it, 255], 4 * at);
      const samples = Uint8Array.from([...levels, ...new Array((width * height) / 2).fill(128)]);
      const colorSpace = { matrix: 'bt709', primaries: 'bt709', transfer: 'bt709', fullRange: true } as const;
      const camera = { format: 'I420', codedWidth: width, codedHeight: height, timestamp: 0, colorSpace } as const;
      const seen = {
        frame: await pixels(new VideoFrame(canvas, { timestamp: 0 })),
        planes: await pixels(new VideoFrame(samples, camera)),
        grey: await pixels(plain),
        bitmap: await pixels(await createImageBitmap(canvas)),
        data: await pixels(context.getImageData(0, 0, 300, 200)),
      };
      client.setGoal({ kind: 'lowestLatency', atLeast: 0, among: 'edge' });
      const dropped = await client.infer(canvas).catch(({ code }: { code: string }) => code);
      client.close();
      return { ...seen, dropped };
    });
    expect(new Set(data).size).toBeGreaterThan(10);
    expect(bitmap).toEqual(data);
    expect(frame).toEqual(data);
    expect(Math.max(...grey.map((it, at) => Math.abs(it - (planes[at] ?? 0))))).toBeLessThanOrEqual(2);
    expect(dropped).toBe('no-usable-point');
  });
});

/** What browsers do against fingerprinting: every pixel that is read from a canvas is a little off. */
function addNoise() {
  const { prototype } = OffscreenCanvasRenderingContext2D;
  const read = prototype.getImageData;
  prototype.getImageData = function (...box: Parameters<typeof read>) {
    const image = read.apply(this, box);
    for (let at = 0; at < image.data.length; at += 1) image.data[at] = (image.data[at] ?? 0) ^ 1;
    return image;
  };
}
