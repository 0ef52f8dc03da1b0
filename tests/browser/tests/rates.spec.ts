import type { Page } from '@playwright/test';

import { withExample } from '../src/example.js';
import { expect, test } from '../src/fixtures.js';
import { Relay } from '../src/relay.js';
import type { Series } from '../src/series.js';

/** Connects; returns what asks for one frame at a split point, or at any that cuts the network, and says where that frame went. */
async function connected(page: Page) {
  return page.evaluateHandle(async () => {
    const { SplitClient } = await import('/split-inference/dist/index.js' as string);
    const client = await SplitClient.connect();
    const told: string[] = [];
    client.on('state', ({ state }: { state: string }) => told.push(state));
    client.on('problem', ({ code }: { code: string }) => told.push(code));
    type Point = { split: string; index: number };
    const points: Point[] = client.series.points;
    const isCut = ({ split }: Point) => split !== 'input' && split !== 'output';
    const aim = (split?: string) => {
      const point = points.find((it) => (split ? it.split === split : isCut(it)));
      client.setGoal({ kind: 'fixed', point: point?.index });
      return point?.split;
    };
    const ask = async () => {
      const { point } = await client.infer(new ImageData(32, 32));
      return points[point]?.split;
    };
    /** Until its head is there, frames may go elsewhere. */
    const load = async (split?: string) => {
      const aimed = aim(split);
      while ((await ask()) !== aimed);
    };
    return { told, ask, load };
  });
}

test('a page that asks as often as it can keeps to the rates of the edge worker', async ({ page, series }) => {
  await withExample(
    series,
    async ({ url }) => {
      await page.goto(url);
      const client = await connected(page);
      await client.evaluate(({ load }) => load());
      const splits = await client.evaluate(async ({ ask }) => {
        const splits = new Set<string | undefined>();
        for (let frame = 0; frame < 100; frame += 1) splits.add(await ask());
        return [...splits];
      });
      expect(splits).toHaveLength(1);
      expect(splits).not.toContain('output');
      expect(await client.evaluate(({ told }) => told)).toEqual([]);
    },
    ['--messages-per-second', '30'],
  );
});

/** A client behind a relay, which aims at a split and has a head for it and the whole network. */
async function behindRelay(
  page: Page,
  series: Series,
  run: (client: Awaited<ReturnType<typeof connected>>, relay: Relay) => Promise<void>,
): Promise<void> {
  await withExample(series, async (edge) => {
    const relay = await Relay.to(edge);
    try {
      await page.goto(relay.url);
      const client = await connected(page);
      await client.evaluate(({ load }) => load('output'));
      await client.evaluate(({ load }) => load());
      await run(client, relay);
    } finally {
      relay.close();
    }
  });
}

test('frames run on the device while an edge worker is silent, even where all are to be split', async ({
  page,
  series,
}) => {
  await behindRelay(page, series, async (client, relay) => {
    const asked = relay.hold();
    const local = client.evaluate(async ({ ask, told }) => {
      const lost = told.length;
      for (;;) {
        // Only the latest frame waits; one that was sent has no answer before the connection is given up.
        const split = await Promise.race([ask().catch(() => undefined), new Promise((it) => setTimeout(it, 100))]);
        if (split === 'output') return told.slice(lost);
      }
    });
    await asked;
    // The connection was not given up before.
    expect((await local).filter((it) => it !== 'superseded')).toEqual([]);
  });
});

test('nothing is sent without frames, and none once the device is to compute everything', async ({ page, series }) => {
  await behindRelay(page, series, async (client, relay) => {
    const sentInASecond = async () => {
      const before = relay.sentBytes;
      await new Promise((resolve) => setTimeout(resolve, 1000));
      return relay.sentBytes - before;
    };
    await expect.poll(sentInASecond, { timeout: 15_000 }).toBe(0);
    const before = relay.sentBytes;
    const ask = (frames: number) =>
      client.evaluate(async ({ ask }, frames) => {
        // Several at a time: one that is being prepared when the goal changes stays here, too.
        const ways = await Promise.all(Array.from({ length: frames }, () => ask().catch(() => undefined)));
        return [...new Set(ways.filter((it) => it !== undefined))];
      }, frames);
    await ask(10);
    expect(relay.sentBytes).toBeGreaterThan(before);
    const stayed = ask(20);
    await client.evaluate(({ load }) => load('output'));
    await stayed;
    const sent = relay.sentBytes;
    expect(await ask(20)).toEqual(['output']);
    expect(relay.sentBytes).toBe(sent);
  });
});

for (const [when, times] of [
  ['at once', 1],
  ['after its first answers', 4],
] as const) {
  test(`an edge worker that moves its clients on ${when} is asked less and less often`, async ({ page, series }) => {
    await withExample(series, async (edge) => {
      const relay = await Relay.to(edge);
      try {
        relay.moveAfter(times);
        await page.goto(relay.url);
        const longest = await page.evaluate(async () => {
          const { SplitClient } = await import('/split-inference/dist/index.js' as string);
          const client = await SplitClient.connect();
          let isOver = false;
          const ask = async () => {
            while (!isOver) await client.infer(new ImageData(32, 32)).catch(() => {});
          };
          const asking = ask();
          const longest = await new Promise((resolve) => {
            client.on('state', ({ retryMs = 0 }) => {
              if (retryMs > 1000) resolve(retryMs);
            });
          });
          isOver = true;
          await asking;
          client.close();
          return longest;
        });
        expect(longest).toBeGreaterThan(1000);
      } finally {
        relay.close();
      }
    });
  });
}

test.describe('an edge worker that moves its clients on and is gone', () => {
  test.use({ expected: [/WebSocket connection to .* failed/] });

  test('leaves the frames on their way to the device', async ({ page, series }) => {
    await behindRelay(page, series, async (client, relay) => {
      const asked = relay.hold();
      const answer = client.evaluate(({ ask }) => ask());
      await asked;
      relay.move();
      expect(await answer).toBe('output');
    });
  });
});
