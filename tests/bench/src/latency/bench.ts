import type { Browser, BrowserContext } from 'playwright-core';

import { launch } from '../chromium.js';
import type { Link } from '../links.js';
import { edgeWorker, link, onDeviceCore, type Program, type Server, setLink, slices } from '../machine.js';
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
  /** Split points measured for each cell. */
  each: number;
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
  unpruned: Edge;
  /** Where the page of onnxruntime-web is. */
  peer: string;
  browser: Browser;
  slices: Program | undefined;
  /** Time of the loop that tells how fast the first class is. */
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
  return {
    files,
    settings,
    ours: await edge(files.series.folder),
    unpruned: await edge(files.unpruned.folder),
    peer: await serve({ onnx: files.onnx, series: files.series.folder }),
    browser: await onDeviceCore(() => launch(files.clip)),
    slices: slicing,
    notes: [],
  };
}

/** The browser on a device of this class, with empty caches. */
export async function asClass(bench: Bench, factor: number): Promise<BrowserContext> {
  await bench.slices?.say(`${factor}`);
  const context = await bench.browser.newContext({ permissions: ['camera'] });
  await record(context);
  return context;
}

/** How many times slower a loop in a web worker has become, against the first call. */
export async function measuredFactor(bench: Bench, context: BrowserContext): Promise<number> {
  const page = await context.newPage();
  await page.goto(new URL('pages/loop.html', bench.peer).href);
  const times = await page.evaluate(
    () =>
      new Promise<number[]>((resolve) => {
        const worker = new Worker('/pages/loop.js', { type: 'module' });
        worker.onmessage = ({ data }) => resolve(data);
      }),
  );
  await page.close();
  const time = median(times);
  bench.loopMs ??= time;
  return time / bench.loopMs;
}

/** Gives both links these conditions. */
export async function overLink(bench: Bench, conditions: Link): Promise<void> {
  await Promise.all([bench.ours, bench.unpruned].map((it) => setLink(it.link, conditions)));
}
