import type { BrowserContext } from 'playwright-core';

import { launchProfile } from '../chromium.js';
import { type Link, THREE_G, UNLIMITED } from '../links.js';
import { link, setLink } from '../machine.js';
import { firstResult, pageUrl, peerUrl, record } from '../page.js';
import type { Report } from '../report.js';
import { median } from '../statistics.js';
import type { Places } from './places.js';

/** Seconds from asking for the page to the first label. */
const COLD_S = 1.5;
const WARM_S = 0.5;
const COLD_3G_S = 15;

const PATIENCE_MS = 120_000;
/** What is fetched in the background after the first label has this long to reach the cache, as on any visit. */
const STAY_MS = 1000;

/** Milliseconds of every visit. */
interface FirstLabels {
  cold: number[];
  warm: number[];
}

/** First labels of the product's page and of onnxruntime-web with the whole network, on this machine and over 3G. */
export async function measureFirstLabels(report: Report, places: Places, visits: number): Promise<void> {
  console.log('\nfirst label, medians');
  const { programs, series, edge, peer } = places;
  const visit = async (name: string, page: string, conditions: Link) => {
    const over = await link(programs, page);
    await setLink(over, conditions);
    const { pathname, search } = new URL(page);
    const times = conditions === UNLIMITED ? visits : Math.min(visits, 3);
    try {
      const found = await visitAll(new URL(pathname + search, over.url).href, times);
      report.row({ name: `first label, ${name}, ms`, link: conditions.name, ...found });
      return found;
    } finally {
      over.program.stop();
    }
  };
  const ours = pageUrl(edge, { source: 'sample' });
  const near = await visit('ours', ours, UNLIMITED);
  const far = await visit('ours', ours, THREE_G);
  report.atMost('first label on localhost, cold cache, s', seconds(near.cold), COLD_S);
  report.atMost('first label on localhost, warm cache, s', seconds(near.warm), WARM_S);
  report.atMost('first label over 3G, cold cache, s', seconds(far.cold), COLD_3G_S);
  const variant = series.whole?.variant;
  if (!variant) return;
  for (const conditions of [UNLIMITED, THREE_G]) {
    const found = await visit('onnxruntime-web', peerUrl(peer, variant, 'sample'), conditions).catch(String);
    // No goal is measured against it: where it fails, the rest of the benchmark goes on.
    const times =
      typeof found === 'string'
        ? found
        : `cold ${seconds(found.cold).toFixed(2)} s, warm ${seconds(found.warm).toFixed(2)} s`;
    console.log(`  onnxruntime-web with ${variant}, ${conditions.name}: ${times}`);
  }
}

async function visitAll(url: string, visits: number): Promise<FirstLabels> {
  const found: FirstLabels = { cold: [], warm: [] };
  for (let visit = 0; visit < visits; visit += 1) {
    const context = await launchProfile();
    await record(context);
    try {
      found.cold.push(await firstLabel(context, url));
      found.warm.push(await firstLabel(context, url));
    } finally {
      await context.close();
    }
  }
  return found;
}

/** Visits a page; gives the milliseconds from asking for it to its first label. */
export async function firstLabel(context: BrowserContext, url: string, patienceMs = PATIENCE_MS): Promise<number> {
  const page = await context.newPage();
  await page.goto(url, { timeout: patienceMs, waitUntil: 'commit' });
  const ms = await firstResult(page, patienceMs);
  await page.waitForTimeout(STAY_MS);
  await page.close();
  return ms;
}

function seconds(milliseconds: number[]): number {
  return median(milliseconds) / 1e3;
}
