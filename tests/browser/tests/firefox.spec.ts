import { FIREFOX, withFirefox } from '../src/firefox.js';
import { expect, test } from '../src/fixtures.js';

test('stock Firefox shows a label too', async ({ edge, series }) => {
  test.skip(!FIREFOX, 'FIREFOX names no Firefox to try');
  await withFirefox(async (page) => {
    await page.goto(new URL('?source=sample', edge.url).href);
    const text = (selector: string) => page.$eval(selector, (it) => it.textContent?.trim());
    await expect.poll(() => text('#label'), { timeout: 30_000 }).toMatch(new RegExp(`^(${series.classes.join('|')})$`));
    expect(await text('#probability')).toMatch(/^\d{1,3}\.\d %$/);
    await expect.poll(() => text('#state')).toBe('connected');
    expect(await text('#error')).toBe('');
  });
});
