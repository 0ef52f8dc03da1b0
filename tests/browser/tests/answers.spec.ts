import type { Page } from '@playwright/test';

import { answer } from '../src/answer.js';
import { expect, open, test } from '../src/fixtures.js';
import type { Told } from '../src/results.js';
import type { ImageCodec, Point } from '../src/series.js';

/** Frames at every operating point. */
const FRAMES = 4;
/** As far as two builds of one network, for other processors, may be apart. */
const TOLERANCE = 1e-3;
/** Kind, id and operating point of a message. */
const HEADER = { least: 3, most: 8 };

test('every operating point answers as the same network does natively', async ({ page, edge, series, results }) => {
  test.setTimeout(120_000);
  await open(page, edge, { pixels: true });
  for (const [index, point] of series.points.entries()) {
    await test.step(`${index}: ${point.variant} at ${point.split}`, async () => {
      await page.selectOption('#point', `${index}`);
      const shown = await results.take({ count: FRAMES, points: [index] });
      const frames = await Promise.all(shown.map((it) => crossing(page, point, it.pixels ?? [])));
      const answers = await answer(series, index, frames);
      const pairs = shown.flatMap((it, at) => (answers[at]?.certain ? [{ shown: it, native: answers[at] }] : []));
      // Of a frame on the border between two codes, only the others can be compared.
      expect(pairs.length, 'frames that can be compared').toBeGreaterThan(0);
      for (const { shown, native } of pairs) {
        expect.soft(furthest(shown, native.probabilities)).toBeLessThan(TOLERANCE);
        checkBytes(shown.messageBytes, native.payloadBytes);
      }
    });
  }
});

/** What the native network is to be asked: at the split point `input`, an image file by the encoder that the page has. */
async function crossing(page: Page, { codec }: Point, pixels: number[]): Promise<Uint8Array> {
  if (typeof codec === 'string' || !('image' in codec)) return Uint8Array.from(pixels);
  return Uint8Array.from(await page.evaluate(encode, { pixels, image: codec.image }));
}

/** Runs in the page. */
async function encode({ pixels, image }: { pixels: number[]; image: ImageCodec }): Promise<number[]> {
  const side = Math.sqrt(pixels.length / 4);
  const canvas = new OffscreenCanvas(side, side);
  const context = canvas.getContext('2d', { alpha: false, willReadFrequently: true });
  context?.putImageData(new ImageData(Uint8ClampedArray.from(pixels), side), 0, 0);
  const blob = await canvas.convertToBlob({ type: `image/${image.format}`, quality: image.quality / 100 });
  return [...new Uint8Array(await blob.arrayBuffer())];
}

/** The largest difference to the probability of the same class. */
function furthest({ top }: Told, probabilities: number[]): number {
  return Math.max(...top.map((it) => Math.abs(it.probability - (probabilities[it.class] ?? Number.NaN))));
}

function checkBytes(messageBytes: number, payloadBytes: number): void {
  if (payloadBytes === 0) {
    expect.soft(messageBytes).toBe(0);
    return;
  }
  expect.soft(messageBytes).toBeGreaterThanOrEqual(payloadBytes + HEADER.least);
  expect.soft(messageBytes).toBeLessThanOrEqual(payloadBytes + HEADER.most);
}
