import type { CDPSession, Page } from 'playwright-core';

import { collect, type Measured, open, pageUrl, record } from '../page.js';
import { printTable, type Report } from '../report.js';
import { median, quantile } from '../statistics.js';
import { graphicsBytes } from './graphics.js';
import type { Places } from './places.js';

/** Everything beside head, link and tail, in milliseconds a frame; the second with what the page draws. */
const REST_MS = 1.5;
const REST_AND_PAGE_MS = 2;
const FRAMES_PER_SECOND = 30;
/** A heap is never measured twice alike: this much, in megabytes, is no growth. */
const HEAP_MB = 1;
/** Nor is a process, of which freed memory goes back to the system only now and then. */
const GRAPHICS_MB = 8;
/** Frames before anything counts. */
const WARM_UP = 200;

/** Seconds that the page's thread has spent. */
interface ThreadTime {
  script: number;
  layout: number;
  style: number;
  task: number;
}

/** A long stream from the camera through the product's page: what it costs beside the network, how steady it is, whether it grows. */
export async function measureStream(report: Report, { browser, edge, series }: Places, frames: number): Promise<void> {
  console.log(`\n${frames} frames from the camera`);
  const context = await browser.newContext({ permissions: ['camera'] });
  await record(context);
  const point = series.splitting.sort((a, b) => a.headMacs - b.headMacs)[0]?.index;
  const url = pageUrl(edge, point === undefined ? { source: 'camera' } : { source: 'camera', point });
  const page = await open(context, url);
  const cdp = await context.newCDPSession(page);
  await cdp.send('Performance.enable');
  await take(page, WARM_UP);
  const [heapBefore, threadBefore] = [await heapBytes(page), await threadTime(cdp)];
  const graphicsBefore = await graphicsBytes(browser);
  const results = await take(page, frames);
  const graphicsAfter = await graphicsBytes(browser);
  const [heapAfter, threadAfter] = [await heapBytes(page), await threadTime(cdp)];
  await context.close();

  const drawn = (part: keyof ThreadTime) => (1e3 * (threadAfter[part] - threadBefore[part])) / results.length;
  const drawMs = drawn('script') + drawn('layout') + drawn('style');
  const restMs = median(results.map(rest));
  printRest(results, drawMs);
  report.row({
    name: 'main thread, ms a frame',
    script: drawn('script'),
    layout: drawn('layout'),
    style: drawn('style'),
    task: drawn('task'),
  });
  report.row({
    name: 'stream',
    heapBefore,
    heapAfter,
    graphicsBefore,
    graphicsAfter,
    results: results.map(({ at, timings, messageBytes }) => ({ at, messageBytes, ...timings })),
  });
  report.atMost('everything beside head, link and tail, ms a frame of 640×480', restMs, REST_MS);
  report.atMost('the same with what the page draws, ms a frame', restMs + drawMs, REST_AND_PAGE_MS);
  report.atLeast('frames a second', frameRate(results), FRAMES_PER_SECOND);
  report.atMost(`growth of the page's memory in ${results.length} frames, MB`, (heapAfter - heapBefore) / 1e6, HEAP_MB);
  if (graphicsBefore === undefined || graphicsAfter === undefined) return;
  const grown = (graphicsAfter - graphicsBefore) / 1e6;
  report.atMost(`growth of the graphics process in ${results.length} frames, MB`, grown, GRAPHICS_MB);
}

async function take(page: Page, frames: number): Promise<Measured[]> {
  // Twice the time that the slowest rate allowed takes.
  const withinMs = 5000 + (2e3 * frames) / FRAMES_PER_SECOND;
  return collect(page, { frames, withinMs, skip: 0 });
}

/** Capture, resizing, normalising, encoding, decoding, and the messages between the threads: what is not head, link, queue or tail. */
function rest({ timings: { total, head, network, queue, tail } }: Measured): number {
  return total - head - network - queue - tail;
}

function printRest(results: Measured[], drawMs: number): void {
  const of = (value: (result: Measured) => number) => {
    const values = results.map(value);
    return [median(values).toFixed(3), quantile(values, 0.95).toFixed(3)];
  };
  printTable(
    ['ms a frame', 'median', '95 %'],
    [
      ['capture and resizing', ...of((it) => it.timings.capture)],
      ['normalising', ...of((it) => it.timings.normalize)],
      ['encoding', ...of((it) => it.timings.encode)],
      ['decoding', ...of((it) => it.timings.decode)],
      [
        'messages between threads',
        ...of((it) => rest(it) - it.timings.capture - it.timings.normalize - it.timings.encode - it.timings.decode),
      ],
      ['the page’s thread: script, style, layout', drawMs.toFixed(3), '(mean)'],
      ['head', ...of((it) => it.timings.head)],
      ['from frame to label', ...of((it) => it.timings.total)],
    ],
  );
  console.log();
}

/** To a tenth: the camera's clock and the page's are not the same. */
function frameRate(results: Measured[]): number {
  const [first, last] = [results[0]?.at ?? 0, results.at(-1)?.at ?? 0];
  return Math.round((1e4 * (results.length - 1)) / (last - first)) / 10;
}

/** JavaScript heaps of the page and its web workers, with the buffers that they hold. */
async function heapBytes(page: Page): Promise<number> {
  return page.evaluate(async () => {
    const { measureUserAgentSpecificMemory: measure } = performance as unknown as {
      measureUserAgentSpecificMemory(): Promise<{ bytes: number }>;
    };
    return (await measure.call(performance)).bytes;
  });
}

async function threadTime(cdp: CDPSession): Promise<ThreadTime> {
  const { metrics } = await cdp.send('Performance.getMetrics');
  const of = (name: string) => metrics.find((it) => it.name === name)?.value ?? 0;
  return {
    script: of('ScriptDuration'),
    layout: of('LayoutDuration'),
    style: of('RecalcStyleDuration'),
    task: of('TaskDuration'),
  };
}
