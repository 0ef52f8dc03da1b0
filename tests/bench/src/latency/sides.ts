import type { BrowserContext, Page } from 'playwright-core';

import { type Link, UNLIMITED } from '../links.js';
import { collect, type Measured, open, pageUrl } from '../page.js';
import { type Point, promising } from '../series.js';
import { type Bench, classSpeed, type Edge, fullSpeed, openContext, overLink, slowDown } from './bench.js';
import { type Measurement, measurement, type Side, type Subject } from './measurement.js';

/** Time that the free side has to get used to another link, and a fixed one to empty it. */
const SETTLE_FREE_MS = 5000;
const SETTLE_FIXED_MS = 500;

/** Frames that may have been on their way when the conditions changed. */
const IN_FLIGHT = 4;

/** So many frames at least, if they come in this time. */
const FEWEST = 5;
const PATIENCE_MS = 20_000;

/** One class of device: the browser has been slowed down, or its times are multiplied. */
interface Class {
  bench: Bench;
  context: BrowserContext;
  factor: number;
  modelled: number;
}

/** Every side over every link, on a device so many times slower than this machine. */
export async function measureClass(bench: Bench, factor: number): Promise<Measurement[]> {
  console.log(`\ndevice ×${factor}`);
  const modelled = bench.settings.modelled ? factor : 1;
  await overLink(bench, UNLIMITED);
  const context = await openContext(bench);
  const device = { bench, context, factor, modelled };
  const loop = await slowDown(bench, context, modelled > 1 ? 1 : factor);
  console.log(
    `  a loop of a millisecond in a web worker takes ×${loop.toFixed(2)}${modelled > 1 ? ' (modelled)' : ''}`,
  );
  bench.notes.push({ name: 'slowdown of a loop in a web worker', factor, measured: loop, modelled: modelled > 1 });
  const { series, unpruned } = bench.files;
  const { links, factors, each } = bench.settings;
  const measurements: Measurement[] = [];
  for (const point of unpruned.points) {
    measurements.push(...(await fixed(device, 'a', bench.unpruned, point)));
  }
  for (const point of promising(series.splitting, links, factors, each)) {
    measurements.push(...(await fixed(device, 'b', bench.ours, point)));
  }
  measurements.push(...(await onnxruntime(device, series.whole)));
  if (series.picture) measurements.push(...(await fixed(device, 'd', bench.ours, series.picture)));
  // What a slower device would choose cannot be had by multiplying.
  if (modelled === 1) measurements.push(...(await free(device)));
  await context.close();
  return measurements;
}

async function fixed(device: Class, side: Side, edge: Edge, point: Point): Promise<Measurement[]> {
  const { bench } = device;
  await overLink(bench, UNLIMITED);
  const url = pageUrl(edge.link.url, { source: 'camera', point: point.index });
  const page = await openFast(device, url);
  const measurements: Measurement[] = [];
  for (const link of bench.settings.links) {
    await overLink(bench, link);
    await page.waitForTimeout(SETTLE_FIXED_MS);
    const results = await collectAll(bench, page, point.index);
    measurements.push(note(measurement({ ...device, side, link, point }, results)));
  }
  await page.close();
  return measurements;
}

async function free(device: Class): Promise<Measurement[]> {
  const { bench, context } = device;
  const { ours, files } = bench;
  await overLink(bench, UNLIMITED);
  const page = await open(context, pageUrl(ours.link.url, { source: 'camera' }));
  const measurements: Measurement[] = [];
  for (const link of bench.settings.links) {
    await overLink(bench, link);
    await page.waitForTimeout(SETTLE_FREE_MS);
    const results = await collectAll(bench, page);
    const point = files.series.points[mostUsed(results)];
    if (point) measurements.push(note(measurement({ ...device, side: 'e', link, point }, results)));
  }
  await page.close();
  return measurements;
}

/** The link does not matter here: what one thread and two give is noted for each, and the faster one is the side. */
async function onnxruntime(device: Class, point: Point | undefined): Promise<Measurement[]> {
  const { bench, factor } = device;
  if (!point) return [];
  const sides: { threads: number; results: Measured[] }[] = [];
  for (const threads of [1, 2]) {
    const url = new URL('pages/peer.html', bench.peer);
    const parameters = {
      model: `/onnx/${point.variant}.onnx`,
      manifest: '/series/manifest.json',
      threads: `${threads}`,
    };
    url.search = new URLSearchParams(parameters).toString();
    const page = await openFast(device, url.href);
    sides.push({ threads, results: await collectAll(bench, page) });
    await page.close();
  }
  const subject = (link: Link, threads: number): Subject => ({
    ...device,
    side: 'c',
    link,
    point,
    what: `${point.variant}, onnxruntime-web, ${threads === 1 ? 'one thread' : `${threads} threads`}`,
  });
  const all = sides.map((it) => measurement(subject(UNLIMITED, it.threads), it.results));
  for (const it of all) bench.notes.push({ ...it, name: 'onnxruntime-web, by threads', factor });
  const best = (all[1]?.totalMs ?? Number.POSITIVE_INFINITY) < (all[0]?.totalMs ?? 0) ? 1 : 0;
  const { threads, results } = sides[best] ?? { threads: 1, results: [] };
  return bench.settings.links.map((link) => note(measurement(subject(link, threads), results)));
}

/** Loading is not what is measured here. The page that chooses freely is opened as slowly as its class is, since it learns from that. */
async function openFast({ bench, context }: Class, url: string): Promise<Page> {
  await fullSpeed(bench);
  const page = await open(context, url);
  await classSpeed(bench);
  return page;
}

async function collectAll(bench: Bench, page: Page, point?: number): Promise<Measured[]> {
  const { frames, withinMs } = bench.settings;
  const results = await collect(page, { frames, withinMs, skip: IN_FLIGHT, point });
  if (results.length >= FEWEST) return results;
  // The slowest cells need longer for frames that say anything.
  const more = { frames: FEWEST - results.length, withinMs: PATIENCE_MS, skip: 0, point };
  results.push(...(await collect(page, more)));
  if (results.length === 0) throw new Error(`${page.url()} gave no result in ${PATIENCE_MS} ms`);
  return results;
}

function mostUsed(results: Measured[]): number {
  const uses = new Map<number, number>();
  for (const { point } of results) uses.set(point, (uses.get(point) ?? 0) + 1);
  return [...uses].reduce((most, it) => (it[1] > most[1] ? it : most), [-1, 0])[0];
}

function note(it: Measurement): Measurement {
  const times = `${it.totalMs.toFixed(1)} ms, 95 % within ${it.total95Ms.toFixed(1)} ms, ${it.messageBytes} bytes`;
  console.log(`  ${it.side} ×${it.factor} ${it.link.padEnd(5)} ${it.what}: ${times} (${it.frames} frames)`);
  return it;
}
