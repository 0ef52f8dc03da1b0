import { readFile } from 'node:fs/promises';

import { errorsOf, expect, open, test } from '../src/fixtures.js';
import { PACKAGE } from '../src/places.js';
import type { Series } from '../src/series.js';

/** Longer than probes and estimators need to see that a link has become slow. */
const NOTICED_MS = 15_000;
/** As the page names it: 200 ms there and back. */
const ROUND_TRIP_MS = 200;

test('a poor link moves everything to the device, and without it the page goes on', async ({
  page,
  edge,
  series,
  results,
}) => {
  await open(page, edge);
  await results.take({ count: 5 });
  await expect(page.locator('#slower')).toBeHidden();

  await page.selectOption('#slower-link', 'poor');
  await expect(page.locator('#slower')).toHaveText('Slower on purpose: poor link');
  await results.next({ count: 5, points: local(series), withinMs: NOTICED_MS });
  await expect(page.locator('#state')).toHaveText('connected');

  // Pictures that take long to code and to send, with probes in between, never ask for more than the edge worker grants.
  const errors = await errorsOf(page);
  await page.selectOption('#slower-device', '10');
  await page.check('input[name="mode"][value="edge"]');
  const pictures = [...series.points.keys()].filter((it) => series.points[it]?.split === 'input');
  await results.next({ count: 6, points: pictures, withinMs: 2 * NOTICED_MS });
  expect(await errors()).toEqual([]);

  await page.selectOption('#slower-device', '1');
  await page.check('input[name="mode"][value="automatic"]');
  await page.selectOption('#slower-link', 'none');
  await expect(page.locator('#slower')).toBeHidden();
  await results.next({ count: 10 });
  await expect(page.locator('#error')).toBeEmpty();
});

test('messages really take as long as the link that was chosen', async ({ page, edge, series, results }) => {
  const point = series.points.findIndex((it) => it.split !== 'input' && it.split !== 'output');
  await open(page, edge, { point });
  await results.take({ count: 5 });
  await page.selectOption('#slower-link', 'poor');
  // Those on their way when it was chosen come first.
  const [last] = (await results.next({ count: 10, withinMs: NOTICED_MS })).slice(-1);
  expect(last?.timings.network).toBeGreaterThanOrEqual(ROUND_TRIP_MS);
  await expect(page.locator('#reason')).toHaveText(/Link: .*round trip [2-9]\d\d\sms/, { timeout: NOTICED_MS });
});

test('a slower device takes that many times as long, also where the browser codes the picture', async ({
  page,
  edge,
  series,
  results,
}) => {
  for (const split of ['output', 'input']) {
    await test.step(split, async () => {
      const point = series.points.findIndex((it) => it.split === split);
      await open(page, edge, { point });
      const stage = split === 'output' ? 'head' : 'encode';
      const times = async () => (await results.next({ count: 20, points: [point] })).map((it) => it.timings[stage]);
      await results.take({ count: 5, points: [point] });
      // The quickest run of many is the one that nothing else on the machine disturbed.
      const quickest = Math.min(...(await times()));
      await page.selectOption('#slower-device', '10');
      await expect(page.locator('#slower')).toHaveText('Slower on purpose: device ×10');
      await results.next({ count: 5 });
      expect(Math.min(...(await times()))).toBeGreaterThan(5 * quickest);
    });
  }
});

test('measurements say what was slower on purpose', async ({ page, edge, results }) => {
  await open(page, edge);
  await results.take({ count: 5 });
  await page.selectOption('#slower-link', '4G');
  await page.selectOption('#slower-device', '5');
  await results.next({ count: 5 });
  const [download] = await Promise.all([page.waitForEvent('download'), page.click('#export-json')]);
  const { measurements } = JSON.parse(await readFile(await download.path(), 'utf8'));
  const throttles = measurements.map((it: Record<string, unknown>) => [it.linkThrottle, it.deviceThrottle]);
  expect(throttles.at(0)).toEqual(['none', 1]);
  expect(throttles.at(-1)).toEqual(['4G', 5]);
});

test('no message on a slow link overtakes another', async () => {
  const { Lane } = await import(`${PACKAGE}/dist/slower.js`);
  const slow = { bytesPerSecond: 1e6, roundTripMs: 40 };
  /** Messages of so many bytes, handed over at so many milliseconds over a link, and when they arrive. */
  const check = (...messages: [typeof slow | undefined, number, number, number][]) => {
    const lane = new Lane();
    for (const [link, at, bytes, arrival] of messages) expect(lane.arrival(link, at, bytes)).toBe(arrival);
  };
  check([slow, 100, 1000, 121], [slow, 100, 2000, 123], [slow, 110, 1000, 131]);
  // Those that were sent while the link was slow are still on their way when it is not any more.
  check([undefined, 100, 1e9, 100], [slow, 100, 1000, 121], [undefined, 101, 1000, 121], [undefined, 130, 1000, 130]);
});

test('messages on a slow link are handed on in their order, also when timers are late', async () => {
  const { Clock, SlowerSocket } = await import(`${PACKAGE}/dist/slower.js`);
  const sent: number[] = [];
  const real = { send: ([first]: Uint8Array) => sent.push(first ?? 0), close: () => {} };
  const link: { throttle?: object } = { throttle: { bytesPerSecond: 1e6, roundTripMs: 20 } };
  const socket = new SlowerSocket(real, new Clock(), link);
  socket.send(new Uint8Array([1]));
  socket.send(new Uint8Array([2]));
  for (const began = performance.now(); performance.now() < began + 30; );
  delete link.throttle;
  socket.send(new Uint8Array([3]));
  expect(sent).toEqual([]);
  await expect.poll(() => sent).toEqual([1, 2, 3]);
});

test('the clock of a slower device runs ahead while something is computed, and then waits', async () => {
  const { Clock } = await import(`${PACKAGE}/dist/slower.js`);
  const clock = new Clock();
  clock.slowdown = 10;
  const began = clock.now();
  const computed = clock.run(() => {
    for (const since = performance.now(); performance.now() < since + 5; );
    return clock.now() - began;
  });
  expect(computed).toBeGreaterThanOrEqual(50);
  const ended = clock.now();
  expect(ended).toBe(clock.now());
  await clock.caughtUp();
  expect(performance.now()).toBeGreaterThan(ended - 1);
});

test('a throttle that makes no sense is refused', async () => {
  const { checkedThrottle } = await import(`${PACKAGE}/dist/throttle.js`);
  const link = { bytesPerSecond: 25_000, roundTripMs: 0 };
  const slowest = { bytesPerSecond: 2000, roundTripMs: 4000 };
  for (const good of [{}, { device: 1 }, { link }, { link: slowest, device: 100 }]) {
    expect(checkedThrottle(good)).toEqual(good);
  }
  for (const bad of [
    { device: 0.5 },
    { device: 101 },
    { device: Number.NaN },
    { link: { ...link, bytesPerSecond: 0 } },
    { link: { ...link, bytesPerSecond: 1999 } },
    { link: { ...link, bytesPerSecond: Number.POSITIVE_INFINITY } },
    { link: { ...link, roundTripMs: -1 } },
    { link: { ...link, roundTripMs: 5000 } },
    { link: { bytesPerSecond: 2000 } },
  ]) {
    expect(() => checkedThrottle(bad), JSON.stringify(bad)).toThrow(
      expect.objectContaining({ code: 'throttle-invalid' }),
    );
  }
});

/** Places of the operating points that run on the device alone. */
function local({ points }: Series): number[] {
  return [...points.keys()].filter((it) => points[it]?.split === 'output');
}
