import type { Page } from '@playwright/test';

import { expect, open, test } from '../src/fixtures.js';

/** Pictures of noise that are tried, to find one that the network is not sure of. */
const NOISE = 30;

test('an answer that is more likely wrong than right says so, with the next best', async ({
  page,
  edge,
  series,
  results,
}) => {
  // One network, whatever is fastest here: others may be sure of all of them.
  const point = series.points.findLastIndex((it) => it.split === 'output');
  await open(page, edge, { source: 'none', point });
  for (let seed = 1; seed <= NOISE; seed += 1) {
    const after = await results.count();
    const name = `noise ${seed}.png`;
    await page.setInputFiles('#file', { name, mimeType: 'image/png', buffer: Buffer.from(await noise(page, seed)) });
    await expect(page.locator('#picture')).toHaveAccessibleName(name);
    // One of the picture before may be on its way.
    const [, result] = await results.take({ count: 2, after });
    const [best, second] = result?.top ?? [];
    if (!best || !second || best.probability >= 0.5) continue;
    await expect(page.locator('#unsure')).toBeVisible();
    await expect(page.locator('#runner-up')).toHaveText(
      `or ${second.label}, ${(100 * second.probability).toFixed(1)} %`,
    );
    await expect(page.locator('#announcement')).toHaveText(/^Not sure: .+, \d+ percent, or .+, \d+ percent$/);
    return;
  }
  throw new Error('the network is sure of all noise');
});

/** A PNG of coloured squares. */
function noise(page: Page, seed: number): Promise<number[]> {
  return page.evaluate(async (seed) => {
    const canvas = new OffscreenCanvas(32, 32);
    const context = canvas.getContext('2d');
    let state = seed;
    for (let at = 0; context && at < 64; at += 1) {
      // Lehmer's generator.
      state = (state * 48271) % 2147483647;
      context.fillStyle = `#${(state % 0xffffff).toString(16).padStart(6, '0')}`;
      context.fillRect(4 * (at % 8), 4 * (at >> 3), 4, 4);
    }
    return [...new Uint8Array(await (await canvas.convertToBlob()).arrayBuffer())];
  }, seed);
}

test('the page says what the network knows', async ({ page, edge, series, results }) => {
  await open(page, edge, { source: 'sample' });
  await results.take({});
  await expect(page.locator('#knows')).toHaveText(
    `It knows ${series.classes.length} classes: ${series.classes.join(', ')}.`,
  );
});

test('ways of working are compared on the same pictures', async ({ page, edge, series, results }) => {
  await open(page, edge, { source: 'sample' });
  await results.take({ count: 5 });
  await page.click('#compare');
  await expect(page.locator('#compare-state')).toHaveText(/The same 20\spictures/, { timeout: 45_000 });
  const rows = await page
    .locator('#comparison tbody tr')
    .evaluateAll((rows) =>
      rows.map((it) => [...it.children].map((cell) => (cell.textContent ?? '').replaceAll('\u00a0', ' '))),
    );
  expect(rows.map(([name]) => name)).toEqual(['Device only', 'Edge only', 'Split', 'Automatic']);
  const accuracies = series.points.map((it) => it.accuracy);
  for (const [name, latency, sent, accuracy] of rows) {
    expect(latency).toMatch(/^\d+(\.\d)? ms$/);
    expect(sent).toMatch(name === 'Device only' ? /^0 bytes$/ : /^[\d,]+ bytes?$/);
    expect(Number.parseFloat(accuracy ?? '')).toBeGreaterThanOrEqual(Math.floor(Math.min(...accuracies)));
  }
  for (const at of [1, 2]) expect(rows[at]?.[2]).toMatch(/^[1-9]/);
  expect(rows.map((it) => it[4])).toEqual([
    expect.stringMatching(/^\d+ of 20$/),
    '–',
    expect.stringMatching(/^\d+ of 20$/),
    expect.stringMatching(/^\d+ of 20$/),
  ]);
  // The controls count again.
  await results.next({ count: 3 });

  // Also after one that is stopped.
  await page.click('#compare');
  await expect(page.locator('#compare-count')).toHaveText(/^Device only: (getting ready|\d+ of 20) …$/);
  await page.getByRole('button', { name: 'Stop', exact: true }).click();
  await expect(page.locator('#compare-state')).toHaveText('Stopped.');
  await results.next({ count: 3 });
});

test('a preset that chooses among splits ends with it', async ({ page, edge, series, results }) => {
  await open(page, edge, { source: 'sample' });
  await results.take({ count: 1 });
  const preset = page.getByRole('button', { name: 'split only' });
  await preset.click();
  await expect(page.locator('input[name="mode"][value="split"]')).toBeChecked();
  await expect(preset).toHaveAttribute('aria-pressed', 'true');
  const splits = [...series.points.keys()].filter(
    (it) => !['input', 'output'].includes(series.points[it]?.split ?? ''),
  );
  await results.next({ count: 3, points: splits, withinMs: 30_000 });
  await page.getByRole('button', { name: 'This device and link' }).click();
  await expect(page.locator('input[name="mode"][value="automatic"]')).toBeChecked();
  await expect(preset).toHaveAttribute('aria-pressed', 'false');
});

test.describe('a link', () => {
  test.use({ permissions: ['camera', 'clipboard-read', 'clipboard-write'] });

  test('carries source, goal, slowdown, operating point and series', async ({ page, edge, series, results }) => {
    await open(page, edge, { source: 'sample' });
    await results.take({ count: 1 });
    await page.locator('#ceiling').fill('40');
    await page.check('input[name="mode"][value="device"]');
    await page.getByRole('button', { name: 'Phone on 4G' }).click();
    await expect(page.locator('#slower')).toHaveText('Slower on purpose: 4G link, device ×5');
    await page.getByRole('button', { name: 'Copy link' }).click();
    await expect(page.locator('#share-state')).toHaveText(/clipboard/);
    const link = await page.evaluate(() => navigator.clipboard.readText());
    expect(new URL(link).searchParams.get('source')).toBe('sample');
    await page.goto(link);
    const [first] = await results.take({ count: 1 });
    expect(series.points[first?.point ?? -1]?.split).toBe('output');
    await expect(page.locator('input[name="goal"][value="accuracy"]')).toBeChecked();
    await expect(page.locator('#ceiling')).toHaveValue('40');
    await expect(page.locator('input[name="mode"][value="device"]')).toBeChecked();
    await expect(page.locator('#slower')).toHaveText('Slower on purpose: 4G link, device ×5');

    const point = series.points.findIndex((it) => it.split === 'output');
    await page.selectOption('#point', `${point}`);
    await page.getByRole('button', { name: 'Copy link' }).click();
    await expect.poll(() => page.evaluate(() => navigator.clipboard.readText())).toContain(`point=${point}`);
  });
});

test('experts see binary, cold start, profile and link', async ({ page, edge, results }) => {
  await open(page, edge, { source: 'sample' });
  await expect(page.locator('#debug')).toBeHidden();
  await page.goto(new URL('?source=sample&debug', edge.url).href);
  await results.take({ count: 10 });
  await expect(page.locator('#diagnosis')).toHaveText(
    /Binary(relaxed )?SIMD, \d\.\d\sMB unpacked.*ready \d+(\.\d)? ms.*Link.*(per second \(|too fast to tell the rate, ).*Profile\{/s,
  );
});

test.describe('a screen of a phone', () => {
  test.use({ viewport: { width: 360, height: 740 } });

  test('holds result and goal; the rest is folded, and unfolds', async ({ page, edge, results }) => {
    await open(page, edge, { source: 'sample' });
    await results.take({ count: 5 });
    const bottom = await page.locator('#floor').evaluate((it) => it.getBoundingClientRect().bottom);
    expect(bottom).toBeLessThanOrEqual(740);
    await expect(page.locator('#stages')).toBeHidden();
    await page.getByText('Latency and bytes, frame by frame').click();
    await expect(page.locator('#stages')).toBeVisible();
    // Both charts have one width and one axis.
    const widths = await page.locator('.chart').evaluateAll((all) => all.map((it) => it.clientWidth));
    expect(new Set(widths).size).toBe(1);
    expect(widths[0]).toBeGreaterThan(200);
  });
});
