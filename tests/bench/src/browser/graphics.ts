import { readFile } from 'node:fs/promises';
import type { Browser } from 'playwright-core';

/** Memory of the browser's process that holds textures and draws; none where the system does not tell. */
export async function graphicsBytes(browser: Browser): Promise<number | undefined> {
  const cdp = await browser.newBrowserCDPSession();
  const { processInfo } = await cdp.send('SystemInfo.getProcessInfo');
  await cdp.detach();
  const process = processInfo.find((it) => it.type === 'GPU');
  const status = await readFile(`/proc/${process?.id}/status`, 'utf8').catch(() => undefined);
  return status === undefined ? undefined : kilobytes(status, 'RssAnon') * 1024 + kilobytes(status, 'RssShmem') * 1024;
}

function kilobytes(status: string, field: string): number {
  return Number(status.match(new RegExp(`^${field}:\\s+(\\d+) kB`, 'm'))?.[1] ?? Number.NaN);
}
