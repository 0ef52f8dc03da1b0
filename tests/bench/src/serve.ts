import { readFile } from 'node:fs/promises';
import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { extname, join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { brotliCompress, constants } from 'node:zlib';

const TYPES: Record<string, string> = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript',
  '.mjs': 'text/javascript',
  '.json': 'application/json',
  '.wasm': 'application/wasm',
};

/** As the edge worker compresses. */
const OPTIONS = { params: { [constants.BROTLI_PARAM_QUALITY]: 9 } };

/** Folders that are always served, beside the program that is built from this. */
const PAGES = {
  pages: fileURLToPath(new URL('pages', import.meta.url)),
  ort: fileURLToPath(new URL('../node_modules/onnxruntime-web/dist', import.meta.url)),
};

/**
 * Serves the pages of the peers, and folders, under a first path segment each; returns the URL.
 *
 * Isolated like the edge worker's pages, so that clocks are as fine and threads allowed.
 */
export async function serve(more: Record<string, string>): Promise<string> {
  const folders = { ...more, ...PAGES };
  const compressed = new Map<string, Promise<Buffer>>();
  const server = createServer(async (request, response) => {
    const path = fileOf(folders, new URL(request.url ?? '/', 'http://localhost').pathname);
    try {
      if (!path) throw new Error('no such file');
      const body = compressed.get(path) ?? readFile(path).then((it) => promisify(brotliCompress)(it, OPTIONS));
      compressed.set(path, body);
      answer(response, path, await body);
    } catch {
      response.writeHead(404).end();
    }
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  return `http://127.0.0.1:${port}/`;
}

function fileOf(folders: Record<string, string>, path: string): string | undefined {
  const [, first, ...rest] = normalize(decodeURIComponent(path)).split('/');
  const folder = folders[first ?? ''];
  return folder && rest.length > 0 ? join(folder, ...rest) : undefined;
}

function answer(response: ServerResponse, path: string, body: Buffer): void {
  response.writeHead(200, {
    'content-type': TYPES[extname(path)] ?? 'application/octet-stream',
    'content-encoding': 'br',
    'content-length': body.length,
    'cache-control': 'public, max-age=3600',
    'cross-origin-opener-policy': 'same-origin',
    'cross-origin-embedder-policy': 'require-corp',
    'cross-origin-resource-policy': 'same-origin',
  });
  response.end(body);
}
