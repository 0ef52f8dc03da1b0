import type { Page } from '@playwright/test';

import { expect, open, test } from '../src/fixtures.js';

/** How many times as slow the page's own thread is made. */
const SLOWDOWNS = [1, 4, 6];
/** Paintings that are looked at. */
const PAINTINGS = 200;
/** How many times as fast the sample goes from scene to scene: many labels in a short time. */
const HURRY = 20;

/** One painting of the page. */
interface Painting {
  /** The label on it, and that of the last result before it. */
  label: string;
  last: string;
  /** All figures on it, and whether there was one result with all of them. */
  figures: string[];
  consistent: boolean;
}

for (const slowdown of SLOWDOWNS) {
  test(`the page shows the label of the last result, and figures of one result, ${slowdown} times slowed down`, async ({
    page,
    edge,
    series,
    results,
  }) => {
    await page.addInitScript((hurry) => {
      const request = globalThis.requestAnimationFrame;
      globalThis.requestAnimationFrame = (work) => request((now) => work(now * hurry));
    }, HURRY);
    const session = await page.context().newCDPSession(page);
    await session.send('Emulation.setCPUThrottlingRate', { rate: slowdown });
    await open(page, edge, { source: 'sample' });
    // Not one later: the first paintings take longest.
    await results.take({ withinMs: 30_000 });
    const splits = series.points.map((it) => it.split);
    const points = [splits.indexOf('output'), splits.findIndex((it) => it !== 'output' && it !== 'input')];
    const paintings = await watch(page, points);
    expect(new Set(paintings.map((it) => it.last)).size, 'different labels').toBeGreaterThan(1);
    expect(new Set(paintings.map((it) => it.figures.at(-1))).size, 'different sizes').toBeGreaterThan(1);
    expect(paintings.filter((it) => it.label !== it.last)).toEqual([]);
    expect(paintings.filter((it) => !it.consistent)).toEqual([]);
  });
}

/** Looks at paintings, while the page changes between operating points. */
function watch(page: Page, points: number[]): Promise<Painting[]> {
  return page.evaluate(
    async ({ points, count }) => {
      const text = (selector: string) => document.querySelector(selector)?.textContent ?? '';
      const shown = () => [
        text('#label'),
        text('#probability'),
        text('#latency'),
        text('#bytes'),
        text('#network .sent'),
      ];
      const figuresOf = ({ label, probability, timings, messageBytes }: (typeof globalThis.told)[number]) => {
        const bytes = messageBytes.toLocaleString('en');
        return [
          label,
          `${(100 * probability).toFixed(1)} %`,
          timings.total.toFixed(timings.total < 100 ? 1 : 0),
          bytes,
          messageBytes === 0 ? 'nothing is sent' : `${bytes}\u00a0byte${messageBytes === 1 ? '' : 's'}`,
        ];
      };
      const select = document.querySelector<HTMLSelectElement>('#point');
      const change = (at: number) => {
        if (select) select.value = `${points[at % points.length]}`;
        select?.dispatchEvent(new Event('input', { bubbles: true }));
      };
      /** The callbacks of a painting run before it, one after the other; messages are handled after it. */
      const painting = () =>
        new Promise<Painting>((resolve) => {
          requestAnimationFrame(() => {
            const known = [...globalThis.told];
            const { port1, port2 } = new MessageChannel();
            port1.onmessage = () => {
              port1.close();
              const figures = shown();
              const consistent = known.some((it) => figuresOf(it).every((value, at) => value === figures[at]));
              resolve({ label: figures[0] ?? '', last: known.at(-1)?.label ?? '', figures, consistent });
            };
            port2.postMessage(null);
          });
        });
      const paintings: Painting[] = [];
      while (paintings.length < count) {
        if (paintings.length % 20 === 0) change(paintings.length / 20);
        paintings.push(await painting());
      }
      return paintings;
    },
    { points, count: PAINTINGS },
  );
}
