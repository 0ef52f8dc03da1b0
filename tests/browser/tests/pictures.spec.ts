import { readFile } from 'node:fs/promises';

import { withExample } from '../src/example.js';
import { expect, test } from '../src/fixtures.js';
import { place } from '../src/places.js';

/** Rows and columns of what is expected of each picture. */
const GRID = 8;
/** Levels by which decoders may differ. */
const TOLERANCE = 2;

/** tests/pictures/table.json, which the trainer is tested with as well. */
interface Table {
  /** Rows of hexadecimal colours. */
  expected: Record<string, string[]>;
  files: { file: string; like: string; browser?: false }[];
}

test('every kind of picture gives the pixels that the trainer learns from', async ({ page, series }) => {
  const folder = place('tests/pictures');
  const table: Table = JSON.parse(await readFile(`${folder}/table.json`, 'utf8'));
  const entries = table.files.filter((it) => it.browser !== false);
  expect(entries.length).toBeGreaterThan(35);
  const files = await Promise.all(
    entries.map(async ({ file }) => (await readFile(`${folder}/${file}`)).toString('base64')),
  );
  await withExample(series, async ({ url }) => {
    await page.goto(url);
    const seen = await page.evaluate(async (files) => {
      const { SplitClient } = await import('/split-inference/dist/index.js' as string);
      const client = await SplitClient.connect({ pixels: true });
      const pixels: number[][] = [];
      for (const file of files) {
        const bytes = Uint8Array.from(atob(file), (it) => it.charCodeAt(0));
        const bitmap = await createImageBitmap(new Blob([bytes]));
        pixels.push([...(await client.infer(bitmap)).pixels.data]);
      }
      client.close();
      return pixels;
    }, files);
    for (const [at, { file, like }] of entries.entries()) {
      const expected = colours(table.expected[like] ?? []);
      const means = inGrid(seen[at] ?? []);
      const difference = Math.max(...expected.map((it, channel) => Math.abs(it - (means[channel] ?? Number.NaN))));
      expect.soft(difference, file).toBeLessThanOrEqual(TOLERANCE);
    }
  });
});

function colours(rows: string[]): number[] {
  return rows.flatMap((row) => row.match(/../g) ?? []).map((it) => Number.parseInt(it, 16));
}

/** Means of the blocks of a square picture, red, green and blue of each. */
function inGrid(rgba: number[]): number[] {
  const side = Math.sqrt(rgba.length / 4);
  const block = side / GRID;
  const sums = new Array<number>(GRID * GRID * 3).fill(0);
  for (const [at, value] of rgba.entries()) {
    const [pixel, channel] = [Math.floor(at / 4), at % 4];
    const cell = Math.floor(Math.floor(pixel / side) / block) * GRID + Math.floor((pixel % side) / block);
    if (channel < 3) sums[cell * 3 + channel] = (sums[cell * 3 + channel] ?? 0) + value;
  }
  return sums.map((it) => it / block ** 2);
}
