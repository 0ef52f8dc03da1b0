import { createHash, X509Certificate } from 'node:crypto';
import { cp, mkdtemp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import type { Browser, Page } from '@playwright/test';

import { startEdge } from '../src/edge.js';
import { test as base, expect, open } from '../src/fixtures.js';
import { HEAVY, MADE, PAGE, TOY } from '../src/places.js';
import { Server } from '../src/programs.js';
import { Results } from '../src/results.js';

/** Where the proxies of `deploy/` are to be found, as a browser writes it: without a port. */
const SITE = { url: 'https://edge.example.org/' };
/** The operating points of the made-up series that need the edge worker. */
const EDGE = [0, 1, 2];
/** Pages are loaded until both edge workers have served one; this many by the same one are no chance. */
const MOST_VISITS = 20;

/** Two edge workers behind a proxy. */
class Deployment {
  /** Arguments with which Chromium finds the proxy and trusts its certificate. */
  readonly args: string[];
  readonly #proxy: Server;
  readonly #edges: [Server, Server];

  private constructor(proxy: Server, edges: [Server, Server], certificate: string) {
    this.#proxy = proxy;
    this.#edges = edges;
    const key = new X509Certificate(certificate).publicKey.export({ type: 'spki', format: 'der' });
    this.args = [
      `--host-resolver-rules=MAP edge.example.org:443 ${proxy.address}`,
      `--ignore-certificate-errors-spki-list=${createHash('sha256').update(key).digest('base64')}`,
    ];
  }

  static async behind(kind: string): Promise<Deployment> {
    const edges: [Server, Server] = [await start(TOY), await start(TOY)];
    const certificate = join(MADE, `${kind}.pem`);
    const to = edges.map((it) => it.address);
    const proxy = await Server.start('proxy', ['--kind', kind, '--certificate', certificate, '--to', ...to]);
    return new Deployment(proxy, edges, await readFile(certificate, 'utf8'));
  }

  /** Ends one edge worker as a crash would, and starts another at its place. */
  async replace(which: 0 | 1, series: string, web = PAGE): Promise<void> {
    const { address } = this.#edges[which];
    await this.#edges[which].kill();
    this.#edges[which] = await start(series, web, address);
  }

  async close(): Promise<void> {
    await Promise.all([this.#proxy.end(), ...this.#edges.map((it) => it.kill())]);
  }
}

function start(series: string, web = PAGE, listen = '127.0.0.1:0'): Promise<Server> {
  return startEdge(series, { web, listen, args: ['--trusted-proxies', '1', '--host', 'edge.example.org'] });
}

/** `kind` is nginx or Caddy: each is a project of Playwright's configuration. */
const test = base.extend<object, { kind: string; deployment: Deployment }>({
  kind: ['', { scope: 'worker', option: true }],

  deployment: [
    async ({ kind }, use) => {
      const deployment = await Deployment.behind(kind);
      await use(deployment);
      await deployment.close();
    },
    { scope: 'worker' },
  ],

  launchOptions: [
    async ({ launchOptions, deployment }, use) => {
      await use({ ...launchOptions, args: [...(launchOptions.args ?? []), ...deployment.args] });
    },
    { scope: 'worker' },
  ],
});

test('the page splits the network, over HTTP/2, with TLS and a camera', async ({ page, results }) => {
  await open(page, SITE);
  await expectSplit(page, results);
  const protocol = await page.evaluate(() =>
    performance.getEntriesByType('navigation').map((it) => (it as PerformanceNavigationTiming).nextHopProtocol),
  );
  expect(protocol).toEqual(['h2']);
  expect(await page.evaluate(() => crossOriginIsolated)).toBe(true);
});

test('a rollout mixes neither page and scripts nor manifest and socket', async ({ browser, deployment }) => {
  test.setTimeout(180_000);
  const next = await anotherRelease();
  try {
    await deployment.replace(1, HEAVY, next);
    // Each visit begins without a cookie, so that either edge worker may get it.
    const visits = new Map<string, Visit>();
    for (let visit = 0; visits.size < 2 && visit < MOST_VISITS; visit++) {
      const { script, ...it } = await newVisit(browser);
      expect(await it.problems()).toEqual([]);
      if (visits.has(script)) await it.page.context().close();
      else visits.set(script, { script, ...it });
    }
    expect(visits.size).toBe(2);

    // The old edge worker goes: its visitors keep their labels and learn what to do.
    await deployment.replace(0, HEAVY, next);
    const isOld = ({ script }: Visit) => !script.includes(NEXT);
    for (const visit of visits.values()) {
      const { page, results } = visit;
      if (!isOld(visit)) continue;
      await results.next({ count: 5, withinMs: 30_000 });
      await expect(page.locator('#error')).toHaveText(/another manifest.*anew|reload/i, { timeout: 30_000 });
      await page.reload();
      await expectSplit(page, results);
      expect(await firstScript(page)).toContain(NEXT);
    }
    for (const { page } of visits.values()) await page.context().close();
  } finally {
    await deployment.replace(0, TOY);
    await deployment.replace(1, TOY);
    await rm(next, { recursive: true });
  }
});

/** One who opens the page. */
interface Visit {
  page: Page;
  results: Results;
  /** The page's first script, which tells one release from another. */
  script: string;
  /** What went wrong so far: messages of the console, failed requests, the page's own error. */
  problems(): Promise<string[]>;
}

async function newVisit(browser: Browser): Promise<Visit> {
  const context = await browser.newContext({ permissions: ['camera'] });
  const page = await context.newPage();
  const failed: string[] = [];
  page.on('pageerror', (error) => failed.push(`${error}`));
  page.on('console', (message) => {
    if (message.type() === 'error') failed.push(message.text());
  });
  page.on('response', (response) => {
    if (response.status() >= 400) failed.push(`${response.status()} ${response.url()}`);
  });
  const results = await Results.of(page);
  await open(page, SITE);
  await expectSplit(page, results);
  const problems = async () => {
    const error = await page.locator('#error').textContent();
    return [...failed, ...(error?.trim() ? [error] : [])];
  };
  return { page, results, script: await firstScript(page), problems };
}

async function firstScript(page: Page): Promise<string> {
  return (await page.locator('script[src]').first().getAttribute('src')) ?? '';
}

/** The network runs on both sides, and the connection is there. */
async function expectSplit(page: Page, results: Results): Promise<void> {
  await expect(page.locator('#state')).toHaveText(/connected/, { timeout: 30_000 });
  await page.check('input[name="mode"][value="split"]');
  await results.next({ count: 5, points: EDGE, withinMs: 30_000 });
}

/** What is added to the names of another release's files. */
const NEXT = '-next';

/** A page whose files have other names, as after a change of every script. */
async function anotherRelease(): Promise<string> {
  const web = await mkdtemp(join(tmpdir(), 'page-'));
  await cp(PAGE, web, { recursive: true, filter: (it) => !it.endsWith('.br') });
  const assets = await readdir(join(web, 'assets'));
  const renamed = new Map(assets.map((it) => [it, it.replace(/(\.[^.]+)$/, `${NEXT}$1`)]));
  for (const [name, other] of renamed) await rename(join(web, 'assets', name), join(web, 'assets', other));
  for (const name of ['index.html', ...[...renamed.values()].map((it) => `assets/${it}`)]) {
    if (!/\.(html|js|css)$/.test(name)) continue;
    let text = await readFile(join(web, name), 'utf8');
    for (const [name, other] of renamed) text = text.replaceAll(name, other);
    await writeFile(join(web, name), text);
  }
  return web;
}
