import { mkdtemp, readFile, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { startEdge } from '../src/edge.js';
import { withExample } from '../src/example.js';
import { test as base, expect } from '../src/fixtures.js';
import { SHIPPED, TOY } from '../src/places.js';
import type { Server } from '../src/programs.js';

interface Offer {
  /** An edge worker that serves two series, of which `default` is the default. */
  both: Server;
  /** Classes by the series' names. */
  classes: Map<string, string[]>;
  default: string;
  other: string;
}

const test = base.extend<{ offer: Offer }>({
  // biome-ignore lint/correctness/noEmptyPattern: Playwright reads from the pattern what a fixture needs.
  offer: async ({}, use) => {
    const models = await mkdtemp(join(tmpdir(), 'models-'));
    const classes = new Map<string, string[]>();
    for (const folder of [TOY, SHIPPED]) {
      const manifest = JSON.parse(await readFile(`${folder}/manifest.json`, 'utf8'));
      classes.set(manifest.series, manifest.classes);
      await symlink(folder, join(models, manifest.series));
    }
    const [first = '', other = ''] = classes.keys();
    const both = await startEdge(models, { args: ['--default-series', first] });
    await use({ both, classes, default: first, other });
    await both.kill();
    await rm(models, { recursive: true });
  },
});

test('a series is chosen on the page, and the camera goes on', async ({ page, offer, results }) => {
  await page.goto(new URL('?source=camera', offer.both.url).href);
  await results.take({ count: 3 });
  const choice = page.getByLabel('Series of networks');
  await expect(choice).toHaveValue(offer.default);
  const names = await choice.locator('option').allTextContents();
  expect(names).toHaveLength(2);
  for (const [series, classes] of offer.classes) {
    const about = new RegExp(`^${series}: ${classes.length}\\sclasses, \\d+ px, ≤ .*B$`);
    expect(names).toContainEqual(expect.stringMatching(about));
  }
  await page.locator('#point').selectOption({ index: 1 });
  const video = await page.locator('video#picture').elementHandle();

  await choice.selectOption(offer.other);
  await expect(page.locator('#knows')).toContainText(offer.classes.get(offer.other)?.join(', ') ?? '');
  // Its classes are shown once it is the one in use: what comes now is of no other.
  const later = await results.next({ count: 3 });
  for (const it of later) expect(offer.classes.get(offer.other)).toContain(it.label);
  await expect(page.locator('#point')).toHaveValue('auto');
  await expect(page.locator('#state')).toHaveText('connected');
  expect(await video?.evaluate((it) => it.isConnected)).toBe(true);

  // Back leads to the one before.
  await page.goBack();
  await expect(choice).toHaveValue(offer.default);
  await results.next({ count: 1 });
  await page.goForward();
  await expect(choice).toHaveValue(offer.other);
  // It stays the one in use.
  expect(new URL(page.url()).searchParams.get('series')).toBe(offer.other);
  await page.reload();
  await results.take({ count: 1 });
  await expect(choice).toHaveValue(offer.other);
});

test('a series that is chosen before another one is loaded is the one in use', async ({ page, offer, results }) => {
  await page.goto(new URL('?source=camera', offer.both.url).href);
  await results.take({ count: 1 });
  let release = () => {};
  const held = new Promise<void>((resolve) => {
    release = resolve;
  });
  await page.route(`**/models/${offer.other}/manifest.json`, async (route) => {
    await held;
    await route.continue().catch(() => undefined);
  });
  const choice = page.getByLabel('Series of networks');
  await choice.selectOption(offer.other);
  await choice.selectOption(offer.default);
  release();
  await results.next({ count: 5 });
  await expect(page.locator('#knows')).toContainText(offer.classes.get(offer.default)?.join(', ') ?? '');
  const labels = (await results.all()).map((it) => it.label);
  expect(labels.filter((it) => !offer.classes.get(offer.default)?.includes(it))).toEqual([]);
});

test('one series is no choice', async ({ page, edge, results }) => {
  await page.goto(new URL('?source=camera', edge.url).href);
  await results.take({ count: 1 });
  await expect(page.locator('#series-choice')).toBeHidden();
});

test.describe('a link with a series', () => {
  test.use({ expected: [/Failed to load resource.*404/] });

  test('leads to that one; if it is not served, the page says so and takes the default', async ({
    page,
    offer,
    results,
  }) => {
    await page.goto(new URL(`?source=camera&series=${offer.other}`, offer.both.url).href);
    const [result] = await results.take({ count: 1 });
    expect(offer.classes.get(offer.other)).toContain(result?.label);
    await expect(page.locator('#error')).toBeEmpty();

    await page.goto(new URL('?source=camera&series=none&point=1', offer.both.url).href);
    await expect(page.locator('#error')).toHaveText(/for the series none, which this edge worker does not serve/);
    const [other] = await results.take({ count: 1 });
    expect(offer.classes.get(offer.default)).toContain(other?.label);
    await expect(page.locator('#point')).toHaveValue('auto');
  });

  test('names a series of the package, too', async ({ page, series }) => {
    await withExample(series, async ({ url }) => {
      await page.goto(url);
      const { list, name, refused } = await page.evaluate(async () => {
        const { SplitClient } = await import('/split-inference/dist/index.js' as string);
        const client = await SplitClient.connect();
        const list = await client.seriesList();
        client.close();
        const named = await SplitClient.connect({ series: list[0].series });
        const name = named.series.series;
        named.close();
        const refused = await SplitClient.connect({ series: 'none' }).catch((it: { code: string }) => it.code);
        return { list, name, refused };
      });
      expect(list).toEqual([expect.objectContaining({ classes: series.classes.length, isDefault: true })]);
      expect(list[0].mostBytes).toBeGreaterThan(list[0].leastBytes);
      expect(name).toBe(list[0].series);
      expect(refused).toBe('no-such-series');
    });
  });
});
