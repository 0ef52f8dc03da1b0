import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import type { Page } from '@playwright/test';

import { withExample } from '../src/example.js';
import { expect, test } from '../src/fixtures.js';
import { place } from '../src/places.js';

/** Rows and columns of what is expected of each picture. */
const GRID = 8;
/** Levels by which decoders may differ. */
const TOLERANCE = 2;

const FOLDER = place('tests/pictures');

/** tests/pictures/table.json, which the trainer is tested with as well. */
interface Table {
  /** Rows of hexadecimal colours. */
  expected: Record<string, string[]>;
  files: File[];
}

interface File {
  file: string;
  like: string;
  browser?: false;
  fit?: 'letterbox';
  background?: [number, number, number];
}

interface Entry extends File {
  /** Red, green and blue of each block. */
  colours: number[];
}

test('every kind of picture gives the pixels that the trainer learns from', async ({ page, series }) => {
  const entries = (await table()).filter((it) => it.browser !== false);
  expect(entries.length).toBeGreaterThan(35);
  await withExample(series, ({ url }) => check(page, url, entries));
});

test('letterboxed pictures give the pixels that the trainer learns from', async ({ page, series }) => {
  const entries = (await table()).filter((it) => it.fit === 'letterbox');
  expect(entries.length).toBeGreaterThan(2);
  const folder = await mkdtemp(join(tmpdir(), 'letterbox-'));
  try {
    await cp(series.folder, folder, { recursive: true });
    const manifest = JSON.parse(await readFile(`${folder}/manifest.json`, 'utf8'));
    manifest.input.preparation = { fit: 'letterbox', background: entries[0]?.background };
    await writeFile(`${folder}/manifest.json`, JSON.stringify(manifest));
    await withExample({ ...series, folder }, ({ url }) => check(page, url, entries));
  } finally {
    await rm(folder, { recursive: true });
  }
});

/** The pictures, and what is expected of each. */
async function table(): Promise<Entry[]> {
  const { expected, files }: Table = JSON.parse(await readFile(`${FOLDER}/table.json`, 'utf8'));
  return files.map((it) => ({ ...it, colours: colours(expected[it.like] ?? []) }));
}

async function check(page: Page, url: string, entries: Entry[]): Promise<void> {
  const files = await Promise.all(
    entries.map(async ({ file }) => (await readFile(`${FOLDER}/${file}`)).toString('base64')),
  );
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
  for (const [at, { file, colours }] of entries.entries()) {
    const means = inGrid(seen[at] ?? []);
    const difference = Math.max(...colours.map((it, channel) => Math.abs(it - (means[channel] ?? Number.NaN))));
    expect.soft(difference, file).toBeLessThanOrEqual(TOLERANCE);
  }
}

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
