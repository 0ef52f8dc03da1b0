import { readFile } from 'node:fs/promises';

import type { Browser, Page } from '@playwright/test';

import { withExample } from '../src/example.js';
import { expect, test } from '../src/fixtures.js';

/** Clients before anything counts. */
const FIRST = 5;
/** And after that. */
const CLIENTS = 25;
/** A client that is not freed keeps at least its WebAssembly, of several megabytes; freed memory goes back to the system only now and then. */
const MOST_GROWTH = CLIENTS << 20;

test('a page that connects and closes again and again keeps nothing of it', async ({ browser, page, series }) => {
  test.slow();
  await withExample(series, async ({ url }) => {
    await page.goto(url);
    await useClients(page, FIRST);
    const before = await held(browser, page);
    await useClients(page, CLIENTS);
    const after = await held(browser, page);
    expect(after.workers).toBe(before.workers);
    expect(after.listeners).toBe(before.listeners);
    expect(after.heapBytes - before.heapBytes).toBeLessThan(1 << 20);
    expect(after.processBytes - before.processBytes).toBeLessThan(MOST_GROWTH);
  });
});

test('a large picture leaves no memory taken', async ({ browser, page, series }) => {
  test.slow();
  await withExample(series, async ({ url }) => {
    await page.goto(url);
    const client = await page.evaluateHandle(async () => {
      const { SplitClient } = await import('/split-inference/dist/index.js' as string);
      const client = await SplitClient.connect();
      await client.infer(new ImageData(32, 32));
      return client;
    });
    const before = await held(browser, page);
    const side = 8000;
    await client.evaluate((client, side) => client.infer(new ImageData(side, side)), side);
    const taken = async () => (await held(browser, page)).processBytes - before.processBytes;
    // WebAssembly would keep all of it for ever.
    await expect.poll(taken, { timeout: 30_000 }).toBeLessThan(2 * side * side);
  });
});

/** One client after the other: connects, asks for one answer, closes. */
async function useClients(page: Page, clients: number): Promise<void> {
  await page.evaluate(async (clients) => {
    const { SplitClient } = await import('/split-inference/dist/index.js' as string);
    for (let client = 0; client < clients; client += 1) {
      const client = await SplitClient.connect();
      await client.infer(new ImageData(32, 32));
      client.close();
    }
  }, clients);
  // They say goodbye in their own time; the example has a client, too.
  await expect.poll(() => page.workers().length).toBeLessThanOrEqual(2);
}

/** What the page holds once it and its web workers have collected their garbage. */
async function held(browser: Browser, page: Page) {
  const cdp = await page.context().newCDPSession(page);
  const collect = 'HeapProfiler.collectGarbage';
  cdp.on('Target.attachedToTarget', ({ sessionId }) => {
    const message = JSON.stringify({ id: 1, method: collect });
    cdp.send('Target.sendMessageToTarget', { sessionId, message }).catch(() => {});
  });
  await cdp.send('Target.setAutoAttach', { autoAttach: true, waitForDebuggerOnStart: false, flatten: false });
  await cdp.send(collect);
  const { usedSize } = await cdp.send('Runtime.getHeapUsage');
  const { jsEventListeners } = await cdp.send('Memory.getDOMCounters');
  await cdp.detach();
  return {
    workers: page.workers().length,
    listeners: jsEventListeners,
    heapBytes: usedSize,
    processBytes: await renderingBytes(browser),
  };
}

/** Memory of the processes that run pages. */
async function renderingBytes(browser: Browser): Promise<number> {
  const cdp = await browser.newBrowserCDPSession();
  const { processInfo } = await cdp.send('SystemInfo.getProcessInfo');
  await cdp.detach();
  const ids = processInfo.filter((it) => it.type === 'renderer').map((it) => it.id);
  const statuses = await Promise.all(ids.map((it) => readFile(`/proc/${it}/status`, 'utf8')));
  const kilobytes = statuses.map((it) => Number(/^RssAnon:\s+(\d+) kB/m.exec(it)?.[1]));
  return 1024 * kilobytes.reduce((sum, it) => sum + it, 0);
}
