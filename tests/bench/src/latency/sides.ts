import type { BrowserContext, Page } from 'playwright-core';

import { UNLIMITED } from '../links.js';
import { collect, type Measured, open, pageUrl, peerUrl } from '../page.js';
import { type Bench, classSpeed, fullSpeed, openContext, overLink, slowDown } from './bench.js';
import { type Measurement, measurement, type Subject } from './measurement.js';

/** Time that the page has to get used to another link. */
const SETTLE_MS = 4000;

/** Frames that may have been on their way when the conditions changed. */
const IN_FLIGHT = 4;

/** So many frames at least, if they come in this time. */
const FEWEST = 5;
const PATIENCE_MS = 20_000;

/** Sides of the product's own page, each with what it may choose among. */
const WAYS = [
  { side: 'c', mode: 'edge' },
  { side: 'd', mode: 'split' },
  { side: 'e', mode: undefined },
] as const;

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
  const measurements = [...(await partitioned(device)), ...(await alone(device))];
  for (const { side, mode } of WAYS) {
    // What a slower device would choose cannot be had by multiplying.
    if (modelled === 1 || mode === 'edge') measurements.push(...(await overLinks(device, side, mode)));
  }
  await context.close();
  return measurements;
}

/** The unpruned network at every split point. The paper's latency needs its computing and its bytes, which are the same over every link. */
async function partitioned(device: Class): Promise<Measurement[]> {
  const { bench, factor } = device;
  // The paper's device is slower than its edge.
  if (!bench.unpruned || factor === 1) return [];
  const measurements: Measurement[] = [];
  for (const point of bench.files.unpruned?.points ?? []) {
    const page = await openFast(device, pageUrl(bench.unpruned.link.url, { source: 'camera', point: point.index }));
    const results = await collectAll(bench, page, [point.index]);
    if (results.length > 0)
      measurements.push(note(measurement({ ...device, side: 'p', link: UNLIMITED, point }, results)));
    await page.close();
  }
  return measurements;
}

/** Both engines on the device alone, where links do not matter. */
async function alone(device: Class): Promise<Measurement[]> {
  const { bench } = device;
  const { series } = bench.files;
  const { whole } = series;
  if (!whole) return [];
  const subject = { ...device, link: UNLIMITED };
  const theirs = await openFast(device, peerUrl(bench.peer, whole.variant, 'camera'));
  const answers = await collectAll(bench, theirs);
  await theirs.close();
  await overLink(bench, UNLIMITED);
  const page = await openFast(device, pageUrl(bench.ours.link.url, { source: 'camera', mode: 'device' }));
  await page.waitForTimeout(SETTLE_MS);
  const results = await collectAll(bench, page, series.among('device'));
  await page.close();
  const found = [
    answers.length > 0 ? measurement({ ...subject, side: 'a', point: whole }, answers) : undefined,
    summed({ ...subject, side: 'b' }, results, bench),
  ];
  for (const it of found) if (it) note(it);
  const { links } = bench.settings;
  return found.flatMap((it) => (it ? links.map(({ name }) => ({ ...it, link: name })) : []));
}

/**
 * The product's page over one link after the other, the fastest first, so that what it downloads is there in time. It is opened as slowly as its
 * class is, since it learns from that.
 */
async function overLinks(device: Class, side: 'c' | 'd' | 'e', mode: 'edge' | 'split' | undefined) {
  const { bench, context } = device;
  const { ours, files, settings } = bench;
  await overLink(bench, UNLIMITED);
  const page = await open(context, pageUrl(ours.link.url, { source: 'camera', mode }));
  await page.waitForTimeout(SETTLE_MS);
  const measurements: Measurement[] = [];
  for (const link of [...settings.links].reverse()) {
    await overLink(bench, link);
    await page.waitForTimeout(SETTLE_MS);
    const results = await collectAll(bench, page, mode && files.series.among(mode));
    const found = summed({ ...device, side, link }, results, bench);
    if (found) measurements.push(note(found));
    else console.log(`  (${side}) ×${device.factor} ${link.name}: no result`);
  }
  await page.close();
  return measurements;
}

/** Results of whatever was chosen, under the name of the operating point that was used most; none without results. */
function summed(subject: Omit<Subject, 'point'>, results: Measured[], { files }: Bench): Measurement | undefined {
  const point = files.series.points[mostUsed(results)];
  return point && measurement({ ...subject, point }, results);
}

/** Loading is not what is measured here. */
async function openFast({ bench, context }: Class, url: string): Promise<Page> {
  await fullSpeed(bench);
  const page = await open(context, url);
  await classSpeed(bench);
  return page;
}

/** Results under the present conditions; none if nothing comes in a long time. */
async function collectAll(bench: Bench, page: Page, points?: readonly number[]): Promise<Measured[]> {
  const { frames, withinMs } = bench.settings;
  const results = await collect(page, { frames, withinMs, skip: IN_FLIGHT, points });
  if (results.length >= FEWEST) return results;
  // The slowest cells need longer for frames that say anything.
  const more = { frames: FEWEST - results.length, withinMs: PATIENCE_MS, skip: 0, points };
  results.push(...(await collect(page, more)));
  return results;
}

function mostUsed(results: Measured[]): number {
  const uses = new Map<number, number>();
  for (const { point } of results) uses.set(point, (uses.get(point) ?? 0) + 1);
  return [...uses].reduce((most, it) => (it[1] > most[1] ? it : most), [-1, 0])[0];
}

function note(it: Measurement): Measurement {
  const times = `${it.totalMs.toFixed(1)} ms, 95 % within ${it.total95Ms.toFixed(1)} ms, ${it.messageBytes} bytes`;
  const what = `${it.variant} ${it.split} ${it.codec}`;
  console.log(`  (${it.side}) ×${it.factor} ${it.link.padEnd(9)} ${what}: ${times} (${it.frames} frames)`);
  return it;
}
