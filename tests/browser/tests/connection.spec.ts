import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import type { Page } from '@playwright/test';

import { startEdge } from '../src/edge.js';
import { errorsOf, expect, open, test } from '../src/fixtures.js';
import { Link } from '../src/link.js';
import { HEAVY } from '../src/places.js';
import type { Results, Told } from '../src/results.js';

/** The operating points of the made-up series. */
const DEVICE = [3];
const EDGE = [0, 1, 2];
/** Slower than any machine computes the whole network, five times slowed down or not. */
const SLOW = { kilobitsPerSecond: 200, roundTripMs: 1000 };
const FAST = { kilobitsPerSecond: 0, roundTripMs: 0 };

/** A refused connection, as the browser logs it. */
const REFUSED = /WebSocket connection to .* failed|Failed to load resource/;

test.describe('an edge worker that dies', () => {
  test.use({ expected: [REFUSED] });

  test('leaves labels flowing, and takes its part again when it is back', async ({ page, results }) => {
    let edge = await startEdge(HEAVY);
    try {
      await openReady(page, edge, results);
      // Whatever the link is like here: what is asked is who computes, not who would be faster.
      await page.check('input[name="mode"][value="split"]');
      await results.next({ count: 10, points: EDGE });
      await edge.kill();
      await results.next({ count: 10, points: DEVICE });
      await expect(page.locator('#state')).toHaveText(/offline|connecting/);

      const { address } = edge;
      edge = await startEdge(HEAVY, { listen: address });
      await results.next({ count: 10, points: EDGE, withinMs: 15_000 });
      await expect(page.locator('#state')).toHaveText(/connected/);
      expectInOrder(await results.all());
    } finally {
      await edge.kill();
    }
  });
});

test.describe('a lost connection', () => {
  test.use({ expected: [REFUSED] });

  const OCCASIONS: Record<string, (page: Page) => Promise<unknown>> = {
    'the page can be seen again': (page) =>
      page.evaluate(() => document.dispatchEvent(new Event('visibilitychange', { bubbles: true }))),
    'the page comes back from the cache': (page) =>
      page.evaluate(() => dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true }))),
    'the network is back': (page) => page.evaluate(() => dispatchEvent(new Event('online'))),
    'the user wishes': (page) => page.getByRole('button', { name: 'Try now' }).click(),
  };

  test('is tried at once when page, network or user ask for it', async ({ page, results }) => {
    let edge = await startEdge(HEAVY);
    try {
      await openReady(page, edge, results);
      await edge.kill();
      const later = page.locator('#state-detail');
      for (const [when, happens] of Object.entries(OCCASIONS)) {
        await test.step(when, async () => {
          // After several failures, the next attempt by itself is seconds away.
          await expect(later).toHaveText(/again in ([4-9]|\d\d) s/, { timeout: 20_000 });
          if (when === 'the user wishes') edge = await startEdge(HEAVY, { listen: edge.address });
          const attempt = page.evaluate(
            () =>
              new Promise((resolve) => {
                const state = document.querySelector('#state');
                if (state)
                  new MutationObserver(() => resolve(state.textContent)).observe(state, {
                    characterData: true,
                    childList: true,
                    subtree: true,
                  });
              }),
          );
          await happens(page);
          expect(await attempt).toBe('connecting');
        });
      }
      await expect(page.locator('#state')).toHaveText('connected');
      await expect(page.locator('#error')).toBeEmpty();
    } finally {
      await edge.kill();
    }
  });
});

test('a token of any characters opens the edge worker, a wrong one is told and not tried again', async ({
  page,
  series,
}) => {
  const folder = await mkdtemp(join(tmpdir(), 'token-'));
  const [file, token] = [join(folder, 'token'), 'a+b%2Bc&d=/'];
  await writeFile(file, token);
  const edge = await startEdge(series.folder, { args: ['--token-file', file] });
  try {
    const state = page.locator('#state');
    for (const [visit, given] of ['a+b%252Bc&d=/', encodeURIComponent(token)].entries()) {
      await page.goto(`${edge.url}?source=sample&visit=${visit}#token=${given}`);
      await expect(state).toHaveText('connected');
    }
    await page.goto(`${edge.url}?source=sample#token=a b`);
    await expect(page.locator('#error')).toHaveText(/token is missing or wrong/);
    await expect(state).toHaveText('offline');
    await expect(page.locator('#state-detail')).not.toHaveText(/again/);
  } finally {
    await edge.kill();
    await rm(folder, { recursive: true });
  }
});

test('a connection that has reached its age is replaced at once', async ({ page, results }) => {
  const edge = await startEdge(HEAVY, { args: ['--max-age-seconds', '2'] });
  try {
    await openReady(page, edge, results);
    const states = await page.evaluateHandle(() => {
      const texts: string[] = [];
      const state = document.querySelector('#state');
      const note = () => texts.push(state?.textContent ?? '');
      if (state) new MutationObserver(note).observe(state, { childList: true, characterData: true, subtree: true });
      return texts;
    });
    await page.check('input[name="mode"][value="split"]');
    const reconnects = async () => (await states.jsonValue()).filter((it) => it.includes('connecting')).length;
    await expect.poll(reconnects, { timeout: 20_000 }).toBeGreaterThanOrEqual(3);
    await results.next({ count: 10, points: EDGE });
    expect(await states.jsonValue()).not.toContainEqual(expect.stringContaining('offline'));
    expectInOrder(await results.all());
  } finally {
    await edge.kill();
  }
});

test('a link that gets slow moves everything to the device within three seconds, one that gets fast moves it back', async ({
  page,
  results,
}) => {
  const edge = await startEdge(HEAVY);
  const link = await Link.to(edge);
  try {
    // Both sides share one machine here. A device made five times as slow loses against the edge however fast that machine is.
    await openReady(page, link, results, { slower: 5 });
    await page.check('input[name="mode"][value="automatic"]');
    await results.next({ count: 5, points: EDGE });
    for (const [conditions, points] of [
      [SLOW, DEVICE],
      [FAST, EDGE],
      [SLOW, DEVICE],
    ] as const) {
      await link.set(conditions);
      await results.next({ count: 2, points, withinMs: 3000 });
    }
    expectInOrder(await results.all());
  } finally {
    await link.close();
    await edge.kill();
  }
});

test.describe('a page six times as slow on a device ten times as slow', () => {
  test.use({ expected: [REFUSED] });

  test('shows labels whatever is chosen, and without the edge worker', async ({ page, results }) => {
    let edge = await startEdge(HEAVY);
    // Slows the page alone: browsers do not offer that for web workers. Those are slowed by the package itself.
    const cdp = await page.context().newCDPSession(page);
    await cdp.send('Emulation.setCPUThrottlingRate', { rate: 6 });
    try {
      await page.goto(new URL('?source=camera&device=10', edge.url).href);
      await results.take({ count: 3 });
      const errors = await errorsOf(page);
      for (const [mode, points] of [
        ['split', [1, 2]],
        ['device', DEVICE],
        ['edge', [0]],
        ['automatic', undefined],
        ['split', [1, 2]],
      ] as const) {
        await page.check(`input[name="mode"][value="${mode}"]`);
        await results.next({ count: 3, ...(points && { points: [...points] }) });
      }
      expect(await errors()).toEqual([]);
      await edge.kill();
      await results.next({ count: 5, points: DEVICE });
      edge = await startEdge(HEAVY, { listen: edge.address });
      await results.next({ count: 5, points: EDGE, withinMs: 20_000 });
      await expect(page.locator('#error')).toBeEmpty();
      expectInOrder(await results.all());
    } finally {
      await edge.kill();
    }
  });
});

test('an answer that arrives while the device computes is not taken for a late one', async ({ page, results }) => {
  const edge = await startEdge(HEAVY);
  try {
    await openReady(page, edge, results, { slower: 10 });
    const computed = await results.next({ count: 10, points: DEVICE });
    const head = Math.min(...computed.map((it) => it.timings.head));
    const roundTrip = async () =>
      Number(/round trip ([\d.]+)\sms/.exec((await page.textContent('#reason')) ?? '')?.[1]);
    // The link is a loopback interface; half a head is what chance would add to it.
    await expect.poll(roundTrip).toBeLessThan(head / 4);
  } finally {
    await edge.kill();
  }
});

/** Opens the page, on a device that is made slower, and lets it load everything that it may need later. */
async function openReady(page: Page, server: { url: string }, results: Results, { slower = 1 } = {}): Promise<void> {
  await open(page, server);
  await results.take({ points: EDGE });
  if (slower > 1) await page.selectOption('#slower-device', `${slower}`);
  await page.check('input[name="mode"][value="device"]');
  await results.next({ count: 5, points: DEVICE });
}

/** No result came twice, and none after that of a later frame, although the device overtakes what is on the link. */
function expectInOrder(results: Told[]): void {
  const frames = results.map((it) => it.frame);
  expect(frames.filter((it, at) => at > 0 && it <= (frames[at - 1] ?? 0))).toEqual([]);
}
