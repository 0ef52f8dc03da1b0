import { readdir } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import type { Page } from '@playwright/test';

import { expect, open, test } from '../src/fixtures.js';

const DATA = process.env.DATA;
const IMAGES = 50;
/** Standard deviations that so few images may be off by chance: one run in 16,000 is further off. */
const DEVIATIONS = 4;

test('real images shown as files get the right label as often as the manifest states', async ({
  page,
  edge,
  series,
  results,
}) => {
  test.skip(!DATA, 'DATA names no image folder (test/<class>/*) to show');
  test.skip(!series.shipped, 'a made-up series recognises nothing');
  test.setTimeout(120_000);
  const point = series.points.findIndex((it) => it.split !== 'input' && it.split !== 'output');
  await open(page, edge, { source: 'none', pixels: true, point });

  const files = await images(join(DATA ?? '', 'test'));
  let right = 0;
  for (const file of files) {
    const after = await results.count();
    await page.setInputFiles('#file', file);
    // Results of the picture before may still come.
    const [result] = await results.take({ after, points: [point], pixels: await pixels(page) });
    if (result?.label === basename(dirname(file))) right += 1;
  }

  const stated = (series.points[point]?.accuracy ?? 0) / 100;
  const deviation = Math.sqrt((stated * (1 - stated)) / files.length);
  expect(Math.abs(right / files.length - stated)).toBeLessThanOrEqual(DEVIATIONS * deviation);
});

/** Images spread evenly over the class folders. */
async function images(folder: string): Promise<string[]> {
  const classes = (await readdir(folder)).sort();
  const perClass = Math.ceil(IMAGES / classes.length);
  const ofClass = async (name: string) => {
    const names = (await readdir(join(folder, name))).sort();
    return Array.from({ length: perClass }, (_, at) => names[Math.floor((at * names.length) / perClass)])
      .filter((it) => it !== undefined)
      .map((it) => join(folder, name, it));
  };
  return (await Promise.all(classes.map(ofClass))).flat();
}

/** What the network must see of the file that was just chosen. */
function pixels(page: Page): Promise<number[]> {
  return page.evaluate(async () => {
    const file = document.querySelector<HTMLInputElement>('#file')?.files?.[0];
    if (!file) throw new Error('the page forgot its file');
    const picture = await createImageBitmap(file);
    const canvas = new OffscreenCanvas(picture.width, picture.height);
    const context = canvas.getContext('2d', { alpha: false, willReadFrequently: true });
    context?.drawImage(picture, 0, 0);
    return [...(context?.getImageData(0, 0, picture.width, picture.height).data ?? [])];
  });
}
