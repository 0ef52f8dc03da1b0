import { test as base, expect, type Page } from '@playwright/test';

import { startEdge } from './edge.js';
import type { Server } from './programs.js';
import { Results } from './results.js';
import { openSeries, type Series } from './series.js';

interface Fixtures {
  /** Errors that a test provokes: the page may log these, and none else. */
  expected: RegExp[];
  /** What the page tells. */
  results: Results;
}

interface WorkerFixtures {
  /** The series that the edge worker serves. */
  series: Series;
  /** An edge worker that tests share. */
  edge: Server;
}

/** A test of the page: it fails if the page does anything wrong meanwhile, in a web worker or out of it. */
export const test = base.extend<Fixtures, WorkerFixtures>({
  expected: [[], { option: true }],

  page: async ({ page, expected }, use) => {
    const errors: string[] = [];
    page.on('crash', () => errors.push('the page crashed'));
    page.on('pageerror', (error) => errors.push(`${error}`));
    page.on('console', (message) => {
      if (message.type() === 'error') errors.push(message.text());
    });
    await use(page);
    expect(errors.filter((error) => !expected.some((it) => it.test(error)))).toEqual([]);
  },

  results: async ({ page }, use) => {
    await use(await Results.of(page));
  },

  series: [
    // biome-ignore lint/correctness/noEmptyPattern: Playwright reads from the pattern what a fixture needs.
    async ({}, use) => {
      await use(await openSeries());
    },
    { scope: 'worker' },
  ],

  edge: [
    async ({ series }, use) => {
      const edge = await startEdge(series.folder);
      await use(edge);
      await edge.kill();
    },
    { scope: 'worker' },
  ],
});

/** What the page is opened with. */
export interface Opening {
  source?: 'camera' | 'sample' | 'none';
  /** Whether results carry what the network saw. */
  pixels?: boolean;
  /** Operating point; chosen by the page if not given. */
  point?: number;
}

/** Opens the page. */
export async function open(page: Page, { url }: { url: string }, opening: Opening = {}): Promise<void> {
  const { source = 'camera', pixels = false, point } = opening;
  const address = new URL(url);
  address.searchParams.set('source', source);
  if (pixels) address.searchParams.set('pixels', '');
  if (point !== undefined) address.searchParams.set('point', `${point}`);
  await page.goto(address.href);
}

/** What the page says from now on of what is wrong, also if it takes it back. */
export async function errorsOf(page: Page) {
  const told = await page.evaluateHandle(() => {
    const [area, texts] = [document.querySelector('#error'), [] as string[]];
    const changes = { characterData: true, childList: true, subtree: true };
    if (area) new MutationObserver(() => texts.push(area.textContent ?? '')).observe(area, changes);
    return texts;
  });
  return () => told.jsonValue();
}

export { expect };
