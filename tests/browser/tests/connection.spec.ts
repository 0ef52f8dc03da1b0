import type { Page } from '@playwright/test';

import { startEdge } from '../src/edge.js';
import { expect, open, test } from '../src/fixtures.js';
import { Link } from '../src/link.js';
import { HEAVY } from '../src/places.js';
import type { Results, Told } from '../src/results.js';

/** The operating points of the made-up series. */
const DEVICE = [3];
const EDGE = [0, 1, 2];
const SLOW = { kilobitsPerSecond: 200, roundTripMs: 200 };
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
      expectOnceEach(await results.all());
    } finally {
      await edge.kill();
    }
  });
});

// Which side is faster is measured, here on one machine for both: that takes a machine with nothing else to do.
test('a link that gets slow moves everything to the device within three seconds, one that gets fast moves it back @timing', async ({
  page,
  results,
}) => {
  const edge = await startEdge(HEAVY);
  const link = await Link.to(edge);
  try {
    await openReady(page, link, results);
    await page.check('input[name="mode"][value="automatic"]');
    await results.next({ count: 10, points: EDGE });
    for (const [conditions, points, withinMs] of [
      [SLOW, DEVICE, 3000],
      // Only probes tell, twice a second, and the link estimate looks back four seconds.
      [FAST, EDGE, 8000],
      [SLOW, DEVICE, 3000],
    ] as const) {
      await link.set(conditions);
      await results.next({ count: 3, points, withinMs });
    }
    expectOnceEach(await results.all());
  } finally {
    await link.close();
    await edge.kill();
  }
});

/** Opens the page and lets it load everything that it may need later. */
async function openReady(page: Page, server: { url: string }, results: Results): Promise<void> {
  await open(page, server);
  await results.take({ points: EDGE });
  await page.check('input[name="mode"][value="device"]');
  await results.next({ count: 3, points: DEVICE });
}

/** No result came twice. One may overtake another: the device what is on the link, a short tail a long one. */
function expectOnceEach(results: Told[]): void {
  const frames = results.map((it) => it.frame);
  expect(frames.filter((it, at) => frames.indexOf(it) !== at)).toEqual([]);
}
