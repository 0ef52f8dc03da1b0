import { readFile } from 'node:fs/promises';

import { expect, open, test } from '../src/fixtures.js';

test('the camera gets a label within five seconds', async ({ page, edge, series, results }, info) => {
  await open(page, edge);
  const [first] = await results.take({ withinMs: 5000 });
  expect(series.classes).toContain(first?.label);
  await expect(page.locator('#label')).toHaveText(new RegExp(series.classes.join('|')));
  await expect(page.locator('#probability')).toHaveText(/^\d{1,3}\.\d %$/);
  await expect(page.locator('#state')).toHaveText(/connected/);
  await expect(page.locator('#error')).toBeHidden();

  // Once there is something to see in every chart.
  await results.take({ count: 60 });
  const path = info.outputPath('page.png');
  await page.screenshot({ path, fullPage: true });
  await info.attach('page', { path, contentType: 'image/png' });
});

test('the label and probability shown are those of the result', async ({ page, edge, results }) => {
  await open(page, edge, { source: 'sample' });
  await results.take({ count: 5 });
  const shown = await page.evaluate(
    () =>
      new Promise<{ told: string; label: string; probability: string }>((resolve) => {
        document.addEventListener('result', ({ detail }: CustomEventInit) => {
          const told = `${detail.label} ${(100 * detail.probability).toFixed(1)} %`;
          const text = (selector: string) => document.querySelector(selector)?.textContent?.trim() ?? '';
          // After whatever the page draws of it.
          requestAnimationFrame(() => {
            const [label, probability] = [text('#label'), text('#probability')];
            if (`${label} ${probability}` === told) resolve({ told, label, probability });
          });
        });
      }),
  );
  expect(`${shown.label} ${shown.probability}`).toBe(shown.told);
});

test.describe('without a camera', () => {
  test.use({ permissions: [] });

  test('the sample and an image file have labels', async ({ page, edge, results }) => {
    await open(page, edge, { source: 'sample' });
    await results.take({ count: 3 });
    const picture = await page.locator('#picture').screenshot();
    await page.setInputFiles('#file', { name: 'picture.png', mimeType: 'image/png', buffer: picture });
    await results.next();
    await expect(page.locator('#error')).toBeHidden();
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
