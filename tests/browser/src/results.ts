import type { Page } from '@playwright/test';

import type { Result } from '../../../web/packages/client/src/types.js';

/** A result as the page told it. */
export type Told = Omit<Result, 'pixels'> & {
  /** In milliseconds since the page was asked for. */
  at: number;
  /** What the network saw, RGBA, if the page was asked for it. */
  pixels?: number[];
};

/** Results to wait for. */
export interface Wanted {
  /** How many. */
  count?: number;
  /** Of these operating points only. */
  points?: number[];
  /** Of this picture only, RGBA; the page must have been asked for pixels. */
  pixels?: number[];
  /** Told after so many others. */
  after?: number;
  withinMs?: number;
}

declare global {
  var told: (Omit<Told, 'pixels'> & { pixels?: ImageData | undefined })[];
}

/** What a page tells of the results that it shows. */
export class Results {
  readonly #page: Page;

  private constructor(page: Page) {
    this.#page = page;
  }

  /** Records what the page will tell, from its next load on. */
  static async of(page: Page): Promise<Results> {
    await page.addInitScript(() => {
      globalThis.told = [];
      document.addEventListener('result', (event) => {
        globalThis.told.push({ ...(event as CustomEvent<Result>).detail, at: performance.now() });
      });
    });
    return new Results(page);
  }

  /** How many there are. */
  count(): Promise<number> {
    return this.#page.evaluate(() => globalThis.told.length);
  }

  /** All so far, without pixels. */
  all(): Promise<Told[]> {
    return this.#page.evaluate(() => globalThis.told.map(({ pixels: _, ...result }) => result));
  }

  /** The last one; fails if there is none yet. */
  async last(): Promise<Omit<Told, 'pixels'>> {
    const last = await this.#page.evaluate(() => globalThis.told.at(-1));
    if (!last) throw new Error('no result yet');
    return last;
  }

  /** Waits for results. */
  take({ count = 1, points, pixels, after = 0, withinMs = 10_000 }: Wanted): Promise<Told[]> {
    return this.#page.evaluate(
      ({ count, points, pixels, after, withinMs }) =>
        new Promise<Told[]>((resolve, reject) => {
          const isWanted = (it: (typeof globalThis.told)[number]) =>
            (!points || points.includes(it.point)) &&
            (!pixels || pixels.every((value, at) => value === it.pixels?.data[at]));
          const fitting = () => globalThis.told.slice(after).filter(isWanted);
          const finish = () => {
            clearTimeout(timer);
            document.removeEventListener('result', look);
          };
          const look = () => {
            const found = fitting().slice(0, count);
            if (found.length < count) return;
            finish();
            resolve(found.map((it) => ({ ...it, pixels: [...(it.pixels?.data ?? [])] })));
          };
          const timer = setTimeout(() => {
            finish();
            const others = globalThis.told.length - after;
            const error = document.querySelector('#error')?.textContent?.trim();
            reject(new Error(`${fitting().length} of ${count} results, ${others} in all; error: ${error || 'none'}`));
          }, withinMs);
          document.addEventListener('result', look);
          look();
        }),
      { count, points, pixels, after, withinMs },
    );
  }

  /** Waits for results that are yet to come. */
  async next(wanted: Omit<Wanted, 'after'> = {}): Promise<Told[]> {
    return this.take({ ...wanted, after: await this.count() });
  }
}
