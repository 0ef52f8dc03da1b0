import { mkdtemp, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { withExample } from '../src/example.js';
import { expect, test } from '../src/fixtures.js';
import { SHIPPED, TOY } from '../src/places.js';

test('clients on one page share nothing, whether of one series or of two', async ({ page, series }) => {
  test.slow();
  const models = await mkdtemp(join(tmpdir(), 'models-'));
  await symlink(TOY, join(models, 'toy'));
  await symlink(SHIPPED, join(models, 'shipped'));
  const both = { ...series, folder: models };
  await withExample(
    both,
    async ({ url }) => {
      await page.goto(url);
      const wanted = { toy: 'both', first: 'input', second: 'output' };
      expect(await page.evaluate(together, wanted)).toEqual({
        splits: { toy: ['both'], first: ['input'], second: ['output'] },
        foreign: [],
        same: true,
        throttles: [{ device: 2 }, {}, {}],
        states: ['connected', 'connected', 'closed'],
        problems: [],
      });
    },
    ['--default-series', 'toy'],
  );
  await rm(models, { recursive: true });
});

/** Streams one canvas to three clients, one of a series and two of another, and closes one of them meanwhile. */
async function together(wanted: Record<string, string>) {
  const { SplitClient } = await import('/split-inference/dist/index.js' as string);
  const problems: string[] = [];
  const open = async (isToy: boolean) => {
    const [toy, other] = isToy ? [{}, undefined] : [undefined, await name()];
    const client = await SplitClient.connect({ ...toy, ...(other && { series: other }) });
    client.on('problem', ({ code }: { code: string }) => problems.push(code));
    return client;
  };
  const lister = await SplitClient.connect();
  const name = async () => {
    const list: { series: string; isDefault: boolean }[] = await lister.seriesList();
    return list.find((it) => !it.isDefault)?.series;
  };
  const [toy, first, second] = await Promise.all([open(true), open(false), open(false)]);
  lister.close();

  const whole = first.series.points.findIndex((it: { split: string }) => it.split === 'output');
  const pixels = new ImageData(64, 48);
  for (let at = 0; at < pixels.data.length; at += 1) pixels.data[at] = at % 4 === 3 ? 255 : (at * at) % 251;
  const seen = [first, second].map(async (client) => {
    client.setGoal({ kind: 'fixed', point: whole });
    for (;;) {
      const { point, label, probability } = await client.infer(pixels);
      if (point === whole) return `${label} ${probability}`;
    }
  });
  const [one, other] = await Promise.all(seen);

  const canvas = document.createElement('canvas');
  const context = canvas.getContext('2d');
  const foreign: string[] = [];
  const streamed = (client: typeof toy) => {
    const splits: string[] = [];
    const run = async () => {
      for await (const { label, point } of client.stream(canvas)) {
        context?.fillRect(splits.length % 300, 0, 1, 9);
        const { split } = client.series.points[point];
        splits.push(split === 'input' || split === 'output' ? split : 'both');
        if (!client.series.classes.includes(label)) foreign.push(label);
      }
    };
    return { splits, ended: run() };
  };
  const clients = { toy, first, second };
  toy.setGoal({ kind: 'lowestLatency', atLeast: 0, among: 'split' });
  first.setGoal({ kind: 'lowestLatency', atLeast: 0, among: 'edge' });
  second.setGoal({ kind: 'lowestLatency', atLeast: 0, among: 'device' });
  toy.setThrottle({ device: 2 });
  const streams = { toy: streamed(toy), first: streamed(first), second: streamed(second) };
  /** Until each has so many more results. */
  const more = async (count: number, running: (keyof typeof streams)[]) => {
    const counts = running.map((it) => [it, streams[it].splits.length + count] as const);
    while (counts.some(([it, count]) => streams[it].splits.length < count)) await new Promise(requestAnimationFrame);
  };
  await more(10, ['toy', 'first', 'second']);
  // On a busy machine an edge worker may be so late that frames run on the device until it is heard of again.
  const latest = Object.entries(streams).map(([it, { splits }]) => ({
    it,
    last: () => [...new Set(splits.slice(-5))],
  }));
  const isSettled = () => latest.every(({ it, last }) => last().every((split) => split === wanted[it]));
  for (let tries = 0; tries < 20 && !isSettled(); tries += 1) await more(5, ['toy', 'first', 'second']);
  const splits = Object.fromEntries(latest.map(({ it, last }) => [it, last()]));
  second.close();
  await streams.second.ended;
  await more(10, ['toy', 'first']);
  const answer = {
    splits,
    foreign,
    same: one === other,
    throttles: Object.values(clients).map((it) => it.throttle),
    states: Object.values(clients).map((it) => it.state),
    problems,
  };
  toy.close();
  first.close();
  await Promise.all([streams.toy.ended, streams.first.ended]);
  return answer;
}

test('a client that is aborted or closed at any moment settles all promises and leaves nothing', async ({
  page,
  series,
}) => {
  test.slow();
  await withExample(series, async ({ url }) => {
    await page.goto(url);
    const { codes, unhandled } = await page.evaluate(abortAtRandom);
    expect(codes.filter((it) => !['aborted', 'closed', 'superseded'].includes(it))).toEqual([]);
    expect(unhandled).toEqual([]);
    // The example has a client, too.
    await expect.poll(() => page.workers().length).toBeLessThanOrEqual(2);
  });
});

test('a web worker that never starts is not waited for', async ({ page, series }) => {
  await withExample(series, async ({ url }) => {
    await page.goto(url);
    const label = await page.evaluate(async () => {
      const { SplitClient } = await import('/split-inference/dist/index.js' as string);
      const Started = globalThis.Worker;
      // The first one is as Firefox sometimes leaves it: it says nothing, and reports no error.
      globalThis.Worker = class extends Started {
        constructor(_url: string | URL) {
          super(URL.createObjectURL(new Blob([''], { type: 'text/javascript' })));
          globalThis.Worker = Started;
        }
      };
      const client = await SplitClient.connect();
      const { label } = await client.infer(new ImageData(32, 32));
      client.close();
      return label as string;
    });
    expect(series.classes).toContain(label);
    await expect.poll(() => page.workers().length).toBeLessThanOrEqual(2);
  });
});

/** Uses clients in every way at once and ends them whenever chance has it. Fails if a promise is not settled in the end. */
async function abortAtRandom() {
  const [seed, rounds] = [1, 8];
  const { SplitClient, SplitError } = await import('/split-inference/dist/index.js' as string);
  const codes = new Set<string>();
  const unhandled: string[] = [];
  addEventListener('unhandledrejection', ({ reason }) => unhandled.push(`${reason}`));
  let state = seed;
  const random = () => {
    // Numerical Recipes' generator: the same moments every time.
    state = (1664525 * state + 1013904223) % 2 ** 32;
    return state / 2 ** 32;
  };
  const moment = () => new Promise((resolve) => setTimeout(resolve, 700 * random() ** 2));
  const settled = async (work: Promise<unknown>) => {
    try {
      await work;
    } catch (thrown) {
      codes.add(thrown instanceof SplitError ? (thrown as { code: string }).code : `${thrown}`);
    }
  };
  const canvas = document.createElement('canvas');
  canvas.getContext('2d')?.fillRect(0, 0, 9, 9);

  const use = async (opening: AbortSignal) => {
    const client = await SplitClient.connect({ signal: opening });
    const stop = new AbortController();
    const { signal } = stop;
    let isOver = false;
    const classify = async () => {
      while (!isOver) {
        await client.infer(canvas, { signal }).catch((thrown: unknown) => settled(Promise.reject(thrown)));
        await moment();
      }
    };
    const stream = async () => {
      for await (const _ of client.stream(canvas, { signal }));
    };
    const steer = async () => {
      for (const among of ['device', 'edge', 'split', 'all']) {
        client.setGoal({ kind: 'lowestLatency', atLeast: 0, among });
        client.setThrottle(random() < 0.5 ? {} : { device: 3, link: { bytesPerSecond: 50_000, roundTripMs: 100 } });
        client.reconnect();
        await moment();
      }
    };
    const works = [classify(), stream(), stream(), steer(), client.diagnose()].map(settled);
    await moment();
    if (random() < 0.5) stop.abort();
    await moment();
    client.close();
    isOver = true;
    await Promise.all(works);
  };
  for (let round = 0; round < rounds; round += 1) {
    const opening = new AbortController();
    const using = settled(use(opening.signal));
    await moment();
    if (random() < 0.6) opening.abort();
    const hung = new Promise((_, reject) => setTimeout(() => reject(new Error(`round ${round} hangs`)), 20_000));
    await Promise.race([using, hung]);
  }
  return { codes: [...codes], unhandled };
}
