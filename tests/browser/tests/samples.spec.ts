import { existsSync } from 'node:fs';
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import AxeBuilder from '@axe-core/playwright';

import { startEdge } from '../src/edge.js';
import { test as base, expect, open } from '../src/fixtures.js';
import { place, TOY } from '../src/places.js';
import type { Server } from '../src/programs.js';

/** The series that was learned from the data set whose pictures the page has. */
const GROCERY = place('models/grocery-lite0');
const LABELS = 'Apple, Banana, Milk, Pepper, Avocado, Juice, Carrots, Pineapple, Mushroom, Yoghurt, Tomato, Lemon';

interface Fixtures {
  /** An edge worker with a small series that claims to be measured on that data set. */
  shop: Server;
}

const test = base.extend<Fixtures>({
  // biome-ignore lint/correctness/noEmptyPattern: Playwright reads from the pattern what a fixture needs.
  shop: async ({}, use) => {
    const folder = await mkdtemp(join(tmpdir(), 'shop-'));
    await cp(TOY, folder, { recursive: true });
    const manifest = JSON.parse(await readFile(`${folder}/manifest.json`, 'utf8'));
    manifest.measured_on.name = 'Grocery Store';
    await writeFile(`${folder}/manifest.json`, JSON.stringify(manifest));
    const edge = await startEdge(folder);
    await use(edge);
    await edge.kill();
    await rm(folder, { recursive: true });
  },
});

test('sample pictures are shown in turn, and the one that is clicked at once', async ({ page, shop, results }) => {
  await open(page, shop, { source: 'sample' });
  await results.take({ count: 1 });
  const samples = page.locator('#samples button');
  expect((await samples.allTextContents()).join(', ')).toBe(LABELS);
  const current = page.locator('#samples [aria-current]');
  await expect(current).toHaveText('Apple');
  await expect(current).toHaveText('Banana', { timeout: 15_000 });
  // Those in sight.
  await expect
    .poll(() =>
      samples
        .locator('img')
        .first()
        .evaluate((it) => (it as HTMLImageElement).naturalWidth),
    )
    .toBe(348);

  await samples.filter({ hasText: 'Carrots' }).click();
  await expect(current).toHaveText('Carrots');
  await expect(page.locator('#picture')).toHaveAccessibleName('Carrots, from the Grocery Store Dataset');
  await results.next({ count: 3 });
  // A link may lead to that one.
  await page.goto(new URL('?source=sample&picture=6', shop.url).href);
  await results.take({ count: 1 });
  await expect(current).toHaveText('Carrots');
  await page.getByRole('button', { name: 'Camera', exact: true }).click();
  await results.next({ count: 3 });
  await expect(current).toHaveCount(0);
  await expect(samples).toHaveCount(12);
});

test('the licence of the pictures is on the page', async ({ page, shop, results }) => {
  await open(page, shop, { source: 'sample' });
  await results.take({ count: 1 });
  const notice = page.locator('#sample-notice');
  await expect(notice).toHaveText('Sample pictures: Grocery Store Dataset, © 2019 Marcus Klasson, MIT licence.');
  const address = await notice.getByRole('link').evaluate((it) => (it as HTMLAnchorElement).href);
  const text = await (await page.request.get(address)).text();
  expect(text).toMatch(/^MIT License\s+Copyright \(c\) 2019 Marcus Klasson\s+Permission is hereby granted/);
});

test('other series have drawn scenes', async ({ page, edge, results }) => {
  await open(page, edge, { source: 'sample' });
  await results.take({ count: 1 });
  await expect(page.locator('#samples')).toBeHidden();
  await expect(page.locator('#sample-notice')).toBeHidden();
  await expect(page.locator('#source-detail')).toHaveText(/^Drawn scenes/);
});

test.describe('sample pictures that cannot be loaded', () => {
  test.use({ expected: [/Failed to load resource/] });

  test('are told with the way out', async ({ page, shop, results }) => {
    await page.route('**/samples/**', (route) => route.abort('connectionrefused'));
    await open(page, shop, { source: 'sample' });
    await expect(page.locator('#error')).toHaveText(/sample pictures cannot be loaded.*press Sample again.*Camera/);
    await page.unrouteAll({ behavior: 'ignoreErrors' });
    await page.getByRole('button', { name: 'Sample' }).click();
    await results.take({ count: 3 });
    await expect(page.locator('#error')).toBeEmpty();
  });
});

for (const [screen, viewport] of Object.entries({
  laptop: { width: 1280, height: 800 },
  phone: { width: 360, height: 740 },
  'small phone': { width: 320, height: 568 },
  'phone on its side': { width: 740, height: 360 },
})) {
  test(`sample pictures on a ${screen}`, async ({ page, shop, results }) => {
    await page.setViewportSize(viewport);
    await page.emulateMedia({ reducedMotion: 'reduce' });
    await open(page, shop, { source: 'sample' });
    await results.take({ count: 5 });
    if (screen === 'phone') {
      const bottom = await page.locator('#floor').evaluate((it) => it.getBoundingClientRect().bottom);
      expect(bottom, 'result and goal are on one screen').toBeLessThanOrEqual(viewport.height);
    }
    if (screen === 'phone on its side') {
      const bottom = await page.locator('#sample').evaluate((it) => it.getBoundingClientRect().bottom);
      expect(bottom, 'picture, result and sources are on one screen').toBeLessThanOrEqual(viewport.height);
    }
    await page.evaluate(() => {
      for (const it of document.querySelectorAll('details')) it.open = true;
    });
    const { violations } = await new AxeBuilder({ page }).withTags(['wcag2a', 'wcag2aa', 'wcag22aa']).analyze();
    expect(violations.map(({ id, nodes }) => `${id}: ${nodes.map((it) => it.html).join(' ')}`)).toEqual([]);
    const overflow = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    expect(overflow, 'pixels that do not fit the width').toBeLessThanOrEqual(0);
  });
}

test('most sample pictures are recognised', async ({ page }) => {
  test.skip(!existsSync(`${GROCERY}/manifest.json`), 'models/ has no series of the data set');
  const edge = await startEdge(GROCERY);
  try {
    await open(page, edge, { source: 'none' });
    await page.locator('#samples').waitFor();
    const right: string[] = [];
    for (const label of LABELS.split(', ')) {
      await page.locator('#samples').getByRole('button', { name: label, exact: true }).click();
      await expect(page.locator('#picture')).toHaveAccessibleName(`${label}, from the Grocery Store Dataset`);
      // Results of the picture before may be on their way.
      try {
        await expect(page.locator('#label')).toContainText(label, { timeout: 3000 });
        right.push(label);
      } catch {
        // Not recognised.
      }
    }
    expect(right.length).toBeGreaterThanOrEqual(9);
  } finally {
    await edge.kill();
  }
});
