import type { BrowserContext, Page } from 'playwright-core';

import type { Result } from '../../../web/packages/client/src/types.js';

/** A result as the page told it, with its time in milliseconds since the page was asked for. */
export type Measured = Omit<Result, 'pixels'> & { at: number };

/** How many results to wait for. */
export interface Wanted {
  frames: number;
  /** At most so long, whatever came by then. */
  withinMs: number;
  /** Results before these are left out: they began under other conditions. */
  skip: number;
  /** Only results of these operating points count. */
  points?: readonly number[] | undefined;
}

/** What is added to a page before its own scripts. */
interface Recorder {
  first: Promise<number>;
  collect(wanted: Wanted): Promise<Measured[]>;
}

declare global {
  var recorder: Recorder;
}

/** Lets pages record the results that they announce. */
export async function record(context: BrowserContext): Promise<void> {
  await context.addInitScript(() => {
    const listeners = new Set<(result: Measured) => void>();
    let arrived = (_at: number) => {};
    const first = new Promise<number>((resolve) => {
      arrived = resolve;
    });
    document.addEventListener('result', (event) => {
      const at = performance.now();
      const { pixels: _, ...result } = (event as CustomEvent<Result>).detail;
      arrived(at);
      for (const it of listeners) it({ ...result, at });
    });
    const collect = ({ frames, withinMs, skip, points }: Wanted) =>
      new Promise<Measured[]>((resolve) => {
        const results: Measured[] = [];
        let left = skip;
        const finish = () => {
          clearTimeout(timer);
          listeners.delete(take);
          resolve(results);
        };
        const take = (result: Measured) => {
          if (points && !points.includes(result.point)) return;
          if (left > 0) left -= 1;
          else results.push(result);
          if (results.length === frames) finish();
        };
        const timer = setTimeout(finish, withinMs);
        listeners.add(take);
      });
    globalThis.recorder = { first, collect };
  });
}

/** Results of a page. */
export function collect(page: Page, wanted: Wanted): Promise<Measured[]> {
  return page.evaluate((it) => globalThis.recorder.collect(it), wanted);
}

/** When the page's first result came, in milliseconds since it was asked for. */
export async function firstResult(page: Page, withinMs: number): Promise<number> {
  const late = new Promise<never>((_, reject) => {
    setTimeout(() => reject(new Error(`${page.url()} gave no result in ${withinMs} ms`)), withinMs).unref();
  });
  return Promise.race([page.evaluate(() => globalThis.recorder.first), late]);
}

/** What the product's page is opened with. */
export interface Opening {
  source: 'camera' | 'sample';
  /** Operating point; chosen by the page if not given. */
  point?: number | undefined;
  /** Way of working to choose among; all if not given. */
  mode?: 'device' | 'edge' | 'split' | undefined;
}

/** The URL of the product's page. It is served over the link, since it may talk to where it came from only. */
export function pageUrl(origin: string, { source, point, mode }: Opening): string {
  const url = new URL(origin);
  url.searchParams.set('source', source);
  if (point !== undefined) url.searchParams.set('point', `${point}`);
  if (mode) url.searchParams.set('mode', mode);
  return url.href;
}

/** The URL of the page that runs a network of the series on onnxruntime-web alone, as `serve` has it. */
export function peerUrl(peer: string, variant: string, source: Opening['source']): string {
  const url = new URL('pages/peer.html', peer);
  const manifest = '/series/manifest.json';
  const parameters = { source, variant, manifest, model: `/onnx/${variant}.onnx`, threads: '1' };
  url.search = new URLSearchParams(parameters).toString();
  return url.href;
}

/** Opens a page and waits for its first result. Its errors end the benchmark. */
export async function open(context: BrowserContext, url: string, withinMs = 120_000): Promise<Page> {
  const page = await context.newPage();
  page.on('console', (message) => {
    if (message.type() === 'error') console.error(`${url}: ${message.text()}`);
  });
  page.on('pageerror', (error) => {
    console.error(`${url}: ${error.message}`);
    process.exitCode = 1;
  });
  await page.goto(url, { timeout: withinMs });
  await firstResult(page, withinMs);
  return page;
}
