import { launch, type Page } from 'puppeteer-core';

import { expect, test } from '../src/fixtures.js';

/** Playwright drives a Firefox of its own only; the one that people have is driven over WebDriver BiDi. */
const FIREFOX = process.env.FIREFOX;

test('stock Firefox shows a label too', async ({ edge, series }) => {
  test.skip(!FIREFOX, 'FIREFOX names no Firefox to try');
  const browser = await launch({ browser: 'firefox', executablePath: FIREFOX ?? '' });
  try {
    const page = await browser.newPage();
    const errors = errorsOf(page);
    await page.goto(new URL('?source=sample', edge.url).href);
    const text = (selector: string) => page.$eval(selector, (it) => it.textContent?.trim());
    await expect.poll(() => text('#label'), { timeout: 30_000 }).toMatch(new RegExp(`^(${series.classes.join('|')})$`));
    expect(await text('#probability')).toMatch(/^\d{1,3}\.\d %$/);
    await expect.poll(() => text('#state')).toBe('connected');
    expect(await text('#error')).toBe('');
    expect(errors).toEqual([]);
  } finally {
    await browser.close();
  }
});

/** What the page does wrong, as it comes. */
function errorsOf(page: Page): string[] {
  const errors: string[] = [];
  page.on('pageerror', (error) => errors.push(`${error}`));
  page.on('console', (message) => {
    if (message.type() === 'error') errors.push(message.text());
  });
  return errors;
}
