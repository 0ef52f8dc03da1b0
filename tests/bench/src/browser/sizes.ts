import { readdir } from 'node:fs/promises';
import { get } from 'node:http';
import { join, relative, sep } from 'node:path';

import type { Report } from '../report.js';

/** Megabytes that the WebAssembly may take on its way. */
const WASM_MB = 1.2;
/** Kilobytes that the page's scripts may take, without WebAssembly. */
const SCRIPT_KB = 150;

/** What the page's files take as the edge worker sends them. */
export async function measureSizes(report: Report, edge: string, web: string): Promise<void> {
  const sizes = await Promise.all(
    (await files(web)).map(async (path) => ({ path, bytes: await sentBytes(edge, path) })),
  );
  for (const it of sizes) report.row({ name: 'file as sent', ...it });
  const of = (ending: string) => sizes.filter((it) => it.path.endsWith(ending)).map((it) => it.bytes);
  console.log('\nsizes as sent');
  report.atMost('WebAssembly of either binary, MB', Math.max(...of('.wasm')) / 1e6, WASM_MB);
  report.atMost("the page's scripts together, kB", of('.js').reduce((sum, it) => sum + it, 0) / 1e3, SCRIPT_KB);
}

async function files(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const paths = entries.filter((it) => it.isFile()).map((it) => relative(folder, join(it.parentPath, it.name)));
  return paths.map((it) => it.split(sep).join('/'));
}

/** Bytes of the body on its way: `fetch` would count what they unpack to. */
function sentBytes(edge: string, path: string): Promise<number> {
  return new Promise((resolve, reject) => {
    const request = get(new URL(path, edge), { headers: { 'accept-encoding': 'br' } }, (response) => {
      let bytes = 0;
      response.on('data', (part: Buffer) => {
        bytes += part.length;
      });
      response.on('end', () => resolve(bytes));
    });
    request.on('error', reject);
  });
}
