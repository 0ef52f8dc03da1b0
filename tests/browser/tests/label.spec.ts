import { readFile } from 'node:fs/promises';

import { expect, open, test } from '../src/fixtures.js';

test('the camera gets a label within five seconds', async ({ page, edge, series, results }, info) => {
  await open(page, edge);
  const [first] = await results.take({ withinMs: 5000 });
  expect(series.classes).toContain(first?.label);
  await expect(page.locator('#label')).toHaveText(new RegExp(series.classes.join('|')));
  await expect(page.locator('#probability')).toHaveText(/^\d{1,3}\.\d %$/);
  await expect(page.locator('#state')).toHaveText(/connected/);
  await expect(page.locator('#error')).toBeEmpty();

  // Once there is something to see in every chart.
  await results.take({ count: 30 });
  const path = info.outputPath('page.png');
  await page.screenshot({ path, fullPage: true });
  await info.attach('page', { path, contentType: 'image/png' });
});

test.describe('without a camera', () => {
  test.use({ permissions: [] });

  test('the built-in sample has labels', async ({ page, edge, results }) => {
    await open(page, edge, { source: 'sample' });
    await results.take({ count: 10 });
    await expect(page.locator('#error')).toBeEmpty();
  });

  test('an image file is shown with the label and probability of its result', async ({ page, edge, results }) => {
    await open(page, edge, { source: 'none' });
    const buffer = await page.screenshot();
    await page.setInputFiles('#file', { name: 'picture.png', mimeType: 'image/png', buffer });
    await results.take({});
    // The picture is looked at again when another operating point is chosen: what is shown is the last result.
    const shown = () => Promise.all(['#label', '#probability'].map((it) => page.locator(it).textContent()));
    await expect(async () => {
      const { label, probability } = await results.last();
      expect(await shown()).toEqual([label, `${(100 * probability).toFixed(1)} %`]);
    }).toPass({ timeout: 5000 });
    await expect(page.locator('#picture')).toHaveAccessibleName('picture.png');
    await expect(page.locator('#error')).toBeEmpty();
  });
});

test('measurements can be taken away as CSV and as JSON', async ({ page, edge, results }) => {
  await open(page, edge, { source: 'sample' });
  await results.take({ count: 20 });
  const exported = async (button: string) => {
    const [download] = await Promise.all([page.waitForEvent('download'), page.click(button)]);
    return readFile(await download.path(), 'utf8');
  };
  const [header = '', ...rows] = (await exported('#export-csv')).trimEnd().split('\n');
  expect(header).toContain('frame');
  expect(rows.length).toBeGreaterThanOrEqual(20);
  for (const row of rows) expect(row.split(',')).toHaveLength(header.split(',').length);
  expect(JSON.stringify(JSON.parse(await exported('#export-json')))).toContain('"frame"');
});
