/** Where the edge worker keeps what a client needs, relative to its own URL. */
const MANIFEST = 'v1/manifest.json';
const INFER = 'v1/infer';

/** The manifest; the paths of its segments are relative to it. */
export function manifestUrl(edge: string): URL {
  return new URL(MANIFEST, edge);
}

/** The WebSocket. */
export function inferUrl(edge: string): URL {
  const url = new URL(INFER, edge);
  url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:';
  return url;
}

/** The edge worker's URL, with the slash without which its last part would be replaced. */
export function edgeUrl(url: string | URL | undefined, page: string): string {
  const edge = new URL(url ?? '.', page);
  if (!edge.pathname.endsWith('/')) edge.pathname += '/';
  edge.search = '';
  edge.hash = '';
  return edge.href;
}
