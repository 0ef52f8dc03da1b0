import { expect, open, test } from '../src/fixtures.js';

/** What the camera shows here is no picture that the codec was calibrated on, so a message may be longer than 95 % of those were. */
const SLACK = 2;

test('every split point in turn shows a label, and the bytes that the manifest states', async ({
  page,
  edge,
  series,
  results,
}) => {
  await open(page, edge);
  const splits = new Map(series.points.map((point, index) => [point.split, index]));
  expect([...splits.keys()]).toEqual(expect.arrayContaining(['input', 'output']));
  expect(splits.size).toBeGreaterThanOrEqual(4);
  for (const [split, index] of splits) {
    await test.step(split, async () => {
      await page.selectOption('#point', `${index}`);
      const shown = await results.take({ count: 5, points: [index] });
      await expect(page.locator('#label')).toHaveText(new RegExp(series.classes.join('|')));
      const limit = SLACK * (series.points[index]?.p95_bytes ?? 0);
      for (const { messageBytes } of shown) {
        if (split === 'output') expect.soft(messageBytes).toBe(0);
        else expect.soft(messageBytes).toBeGreaterThan(0);
        if (series.shipped) expect.soft(messageBytes).toBeLessThanOrEqual(limit);
      }
      await expect(page.locator('#bytes')).toHaveText(split === 'output' ? /\b0\b|nothing|none/ : /[1-9]/);
    });
  }
});

test('the point of the URL is used from the start', async ({ page, edge, series, results }) => {
  const point = series.points.findIndex((it) => it.split !== 'input' && it.split !== 'output');
  await open(page, edge, { point });
  const shown = await results.take({ count: 5 });
  expect(shown.map((it) => it.point)).toEqual(Array(5).fill(point));
  await expect(page.locator('#point')).toHaveValue(`${point}`);
});

test('the modes use the points that they are named after', async ({ page, edge, series, results }) => {
  await open(page, edge);
  await results.take({ count: 1 });
  for (const [mode, split] of [
    ['device', /^output$/],
    ['edge', /^input$/],
    ['split', /^(?!input|output)/],
  ] as const) {
    await test.step(mode, async () => {
      await page.check(`input[name="mode"][value="${mode}"]`);
      const points = [...series.points.keys()].filter((it) => split.test(series.points[it]?.split ?? ''));
      // A head may have to be loaded before; answers to earlier frames may still come, even after the first of the new mode.
      const [first] = await results.next({ points });
      const after = (await results.next({ count: 10 })).filter((it) => first && it.frame > first.frame);
      expect(after.length).toBeGreaterThan(0);
      expect(after.map((it) => it.point).filter((it) => !points.includes(it))).toEqual([]);
    });
  }
});

test('what is chosen while the page is loading holds from the first frame on', async ({
  page,
  edge,
  series,
  results,
}) => {
  let release = () => {};
  const chosen = new Promise<void>((resolve) => {
    release = resolve;
  });
  await page.route('**/manifest.json', async (route) => {
    await chosen;
    await route.continue();
  });
  const point = series.points.findIndex((it) => it.split !== 'input' && it.split !== 'output');
  await open(page, edge, { point });
  await page.check('input[name="mode"][value="device"]');
  await page.locator('#floor').fill('100');
  release();
  await results.take({ count: 10 });
  // Nothing of a picture has left the device: a frame that was sent would have been answered, too.
  const splits = (await results.all()).map((it) => series.points[it.point]?.split);
  expect(splits.filter((it) => it !== 'output')).toEqual([]);
  await expect(page.locator('input[name="mode"][value="device"]')).toBeChecked();
  await expect(page.locator('#point')).toHaveValue('auto');
  // As far as this series goes.
  const most = await page.locator('#floor').getAttribute('max');
  await expect(page.locator('#floor')).toHaveValue(`${most}`);
});
