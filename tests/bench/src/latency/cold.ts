import { firstLabel } from '../browser/first-label.js';
import { launchProfile } from '../chromium.js';
import { type Link, POOR, THREE_G } from '../links.js';
import { link, setLink } from '../machine.js';
import { pageUrl, peerUrl, record } from '../page.js';
import { printTable } from '../report.js';
import type { Bench } from './bench.js';

/** What is visited. */
const VISITS = ['ours, free to choose', 'ours, device only', 'onnxruntime-web, device only'] as const;

/** A label that comes later than this is not waited for. */
const PATIENCE_MS = 180_000;
/** After this time, visits over the poor link do nothing but download. */
const STARTED_MS = 15_000;

/** Time from asking for the page to the first label, with empty caches. */
export interface Cold {
  name: string;
  link: string;
  /** In milliseconds; null if there was none in the time. */
  firstLabelMs: number | null;
}

/** First labels over the two slowest links, on a device as fast as this machine. */
export async function measureCold(bench: Bench): Promise<Cold[]> {
  console.log('\nfirst label from empty caches');
  // These wait for the link nearly all the time: they go on beside the others.
  const poor = Promise.all(VISITS.map((it) => visit(bench, it, POOR)));
  await new Promise((resolve) => setTimeout(resolve, STARTED_MS));
  const faster: Cold[] = [];
  for (const it of VISITS) faster.push(await visit(bench, it, THREE_G));
  return [...faster, ...(await poor)];
}

/** Prints one row for each page. */
export function printCold(colds: Cold[]): void {
  const seconds = (ms: number | null | undefined) =>
    ms === null ? `more than ${PATIENCE_MS / 1000}` : ((ms ?? Number.NaN) / 1000).toFixed(1);
  console.log('\nfirst label from empty caches, seconds');
  const links = [THREE_G, POOR].map((it) => it.name);
  const at = (name: string, link: string) => colds.find((it) => it.name === name && it.link === link)?.firstLabelMs;
  printTable(
    ['', ...links],
    VISITS.map((name) => [name, ...links.map((link) => seconds(at(name, link)))]),
  );
}

async function visit({ files, ours, peer, settings }: Bench, name: (typeof VISITS)[number], over: Link): Promise<Cold> {
  const page =
    name === 'onnxruntime-web, device only'
      ? peerUrl(peer, files.series.whole?.variant ?? '', 'sample')
      : pageUrl(ours.server.url, { source: 'sample', mode: name === 'ours, device only' ? 'device' : undefined });
  const { program, url } = await link(settings.programs, page);
  await setLink({ program, url }, over);
  const { pathname, search } = new URL(page);
  const context = await launchProfile();
  try {
    await record(context);
    const address = new URL(pathname + search, url).href;
    // Of what came too late it is known that it did.
    const firstLabelMs = await firstLabel(context, address, PATIENCE_MS).catch(() => null);
    console.log(`  ${name}, ${over.name}: ${firstLabelMs === null ? 'none' : `${(firstLabelMs / 1000).toFixed(1)} s`}`);
    return { name, link: over.name, firstLabelMs };
  } finally {
    await context.close();
    program.stop();
  }
}
