import { type Browser, launch, type Page } from 'puppeteer-core';

/** Playwright drives a Firefox of its own only; the one that people have is driven over WebDriver BiDi. */
export const FIREFOX = process.env.FIREFOX;

/** Opens a page in the stock Firefox; fails if the page does anything wrong meanwhile. */
export async function withFirefox(
  use: (page: Page) => Promise<void>,
  extraPrefsFirefox: Record<string, unknown> = {},
): Promise<void> {
  const browser: Browser = await launch({ browser: 'firefox', executablePath: FIREFOX ?? '', extraPrefsFirefox });
  try {
    const page = await browser.newPage();
    const errors: string[] = [];
    page.on('pageerror', (error) => errors.push(`${error}`));
    page.on('console', (message) => {
      if (message.type() === 'error') errors.push(message.text());
    });
    await use(page);
    if (errors.length > 0) throw new Error(`the page logged errors: ${errors.join('; ')}`);
  } finally {
    await browser.close();
  }
}
