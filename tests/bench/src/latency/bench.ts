import type { Browser, BrowserContext } from 'playwright-core';

import { launch } from '../chromium.js';
import type { Link } from '../links.js';
import {
  edgeWorker,
  leaveToPages,
  link,
  onDeviceCore,
  type Program,
  type Server,
  setLink,
  slices,
} from '../machine.js';
import { record } from '../page.js';
import { serve } from '../serve.js';
import { median } from '../statistics.js';
import type { Files } from './prepare.js';

/** How much is measured. */
export interface Settings {
  programs: string;
  web: string;
  /** Whether slower classes are modelled. */
  modelled: boolean;
  links: Link[];
  factors: number[];
  /** Frames of one measurement, and the time after which fewer will do. */
  frames: number;
  withinMs: number;
}

/** An edge worker and the link to it. */
export interface Edge {
  server: Server;
  link: Server;
}

/** Everything that runs. */
export interface Bench {
  files: Files;
  settings: Settings;
  ours: Edge;
  /** Serves the unpruned network cut at every split point, if there is one. */
  unpruned: Edge | undefined;
  /** Where the page of onnxruntime-web is. */
  peer: string;
  browser: Browser;
  slices: Program | undefined;
  /** What the program that slows down is told for the class in use. */
  slowness: number;
  /** Time of the loop at full speed. */
  loopMs?: number;
  /** What else was found, for the report. */
  notes: object[];
}

/** Starts servers, links and browser. */
export async function openBench(files: Files, settings: Settings): Promise<Bench> {
  const { programs, web, modelled } = settings;
  const edge = async (folder: string): Promise<Edge> => {
    const server = await edgeWorker(programs, folder, web);
    return { server, link: await link(programs, server.url) };
  };
  const slicing = modelled ? undefined : await slices(programs);
  if (!modelled && !slicing) {
    throw new Error(
      'slower devices need Linux, two cores, and the right to real-time priority (run as root); --modelled does without',
    );
  }
  const browser = await onDeviceCore(() => launch(files.clip));
  await leaveToPages(browser);
  return {
    files,
    settings,
    ours: await edge(files.series.folder),
    unpruned: files.unpruned && (await edge(files.unpruned.folder)),
    peer: await serve({ onnx: files.onnx, series: files.series.folder }),
    browser,
    slices: slicing,
    slowness: 1,
    notes: [],
  };
}

/** A browser with empty caches. */
export async function openContext(bench: Bench): Promise<BrowserContext> {
  const context = await bench.browser.newContext({ permissions: ['camera'] });
  await record(context);
  return context;
}

/** Tries until the device is as slow as it should be. */
const TRIES = 5;
const TOLERANCE = 0.05;

/**
 * Makes the browser's core so many times slower, by what a loop in a web worker says: switching costs a part of every slice, and the browser's
 * other threads have theirs. Returns how many times slower it became.
 */
export async function slowDown(bench: Bench, context: BrowserContext, factor: number): Promise<number> {
  bench.slowness = 1;
  await fullSpeed(bench);
  bench.loopMs ??= await loopMs(bench, context);
  let share = factor;
  let measured = 1;
  for (let attempt = 0; bench.slices && factor > 1 && attempt < TRIES; attempt += 1) {
    bench.slowness = share;
    await classSpeed(bench);
    measured = (await loopMs(bench, context)) / bench.loopMs;
    if (Math.abs(measured / factor - 1) < TOLERANCE) break;
    share = Math.max(1, (share * factor) / measured);
  }
  return measured;
}

/** Lets the device be as fast as the machine, to load what is not measured. */
export async function fullSpeed(bench: Bench): Promise<void> {
  await bench.slices?.say('1');
}

/** Lets the device be as slow as its class again. */
export async function classSpeed(bench: Bench): Promise<void> {
  await bench.slices?.say(bench.slowness.toFixed(3));
}

/** Time of a loop in a web worker. */
async function loopMs(bench: Bench, context: BrowserContext): Promise<number> {
  const page = await context.newPage();
  await page.goto(new URL('pages/loop.html', bench.peer).href, { timeout: 120_000 });
  const times = await page.evaluate(
    () =>
      new Promise<number[]>((resolve) => {
        const worker = new Worker('/pages/loop.js', { type: 'module' });
        worker.onmessage = ({ data }) => resolve(data);
      }),
  );
  await page.close();
  return median(times);
}

/** Gives the link to our edge worker these conditions; the other one stays as fast as the machine. */
export async function overLink(bench: Bench, conditions: Link): Promise<void> {
  await setLink(bench.ours.link, conditions);
}
