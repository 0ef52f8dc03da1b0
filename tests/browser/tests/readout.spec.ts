import type { Page } from '@playwright/test';

import { expect, open, test } from '../src/fixtures.js';

/** How many times as slow the page's own thread is made. */
const SLOWDOWNS = [1, 4, 6];
/** How long paintings are watched, in milliseconds, and how many of them at least. */
const LONG_MS = 8_000;
const PAINTINGS = 20;
/** How often the page changes between operating points, in milliseconds. */
const CHANGE_MS = 1_000;
/** How many times as fast the sample goes from scene to scene: many labels in a short time. */
const HURRY = 20;

/** One painting of the page. */
interface Painting {
  /** The label on it, and those of the last result before it and of any that came until the page was looked at. */
  label: string;
  latest: string[];
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
    expect(new Set(paintings.map((it) => it.label)).size, 'different labels').toBeGreaterThan(1);
    expect(new Set(paintings.map((it) => it.figures.at(-1))).size, 'different sizes').toBeGreaterThan(1);
    expect(paintings.filter((it) => !it.latest.includes(it.label))).toEqual([]);
    expect(paintings.filter((it) => !it.consistent)).toEqual([]);
  });
}

test('what changes with every result is laid out alone', async ({ page, browser, edge, results }) => {
  await open(page, edge);
  await results.take({ count: 20 });
  await browser.startTracing(page, { categories: ['devtools.timeline'] });
  await results.next({ count: 40, withinMs: 30_000 });
  const { traceEvents }: Trace = JSON.parse((await browser.stopTracing()).toString());
  const isPartial = traceEvents.flatMap((it) => it.args?.beginData?.partialLayout ?? []);
  expect(isPartial.length).toBeGreaterThan(10);
  // Now and then, something else changes.
  expect(isPartial.filter((it) => it).length).toBeGreaterThan(isPartial.length / 2);
});

/** What is read of a trace: for each layout, whether it was one of parts of the page only. */
interface Trace {
  traceEvents: { args?: { beginData?: { partialLayout?: boolean } } }[];
}

/** Looks at paintings, while the page changes between operating points. */
function watch(page: Page, points: number[]): Promise<Painting[]> {
  return page.evaluate(
    async ({ points, count, long, change }) => {
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
      const choose = (point: number | undefined) => {
        if (select) select.value = `${point}`;
        select?.dispatchEvent(new Event('input', { bubbles: true }));
      };
      /**
       * The callbacks of a painting run before it, one after the other, and messages are handled after it: on a slow processor, other
       * results and even the next painting may come in between.
       */
      const painting = () =>
        new Promise<Painting>((resolve) => {
          requestAnimationFrame(() => {
            const before = globalThis.told.length;
            const { port1, port2 } = new MessageChannel();
            port1.onmessage = () => {
              port1.close();
              const figures = shown();
              const consistent = globalThis.told.some((it) =>
                figuresOf(it).every((value, at) => value === figures[at]),
              );
              const latest = globalThis.told.slice(before - 1).map((it) => it.label);
              resolve({ label: figures[0] ?? '', latest, figures, consistent });
            };
            port2.postMessage(null);
          });
        });
      const paintings: Painting[] = [];
      const began = performance.now();
      let changes = 0;
      while (paintings.length < count || performance.now() < began + long) {
        if (performance.now() >= began + changes * change) {
          choose(points[changes % points.length]);
          changes += 1;
        }
        paintings.push(await painting());
      }
      return paintings;
    },
    { points, count: PAINTINGS, long: LONG_MS, change: CHANGE_MS },
  );
}
