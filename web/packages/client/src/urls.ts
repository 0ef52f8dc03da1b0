import { shown } from './arguments.js';
import { SplitError } from './errors.js';

/** Where the edge worker keeps what a client needs, relative to its own URL. */
const SERIES = 'models';
const MANIFEST = 'v1/manifest.json';
const INFER = 'v1/infer';

/** The list of series. */
export function seriesUrl(edge: string): URL {
  return new URL(SERIES, edge);
}

/** The manifest of a series, the default one if none is named; the paths of its segments are relative to it. */
export function manifestUrl(edge: string, series?: string): URL {
  return new URL(series === undefined ? MANIFEST : `${SERIES}/${encodeURIComponent(series)}/manifest.json`, edge);
}

/** The WebSocket for a series, the default one if none is named. */
export function inferUrl(edge: string, series?: string): URL {
  const url = new URL(INFER, edge);
  if (series !== undefined) url.searchParams.set('series', series);
  url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:';
  return url;
}

/**
 * The edge worker's URL, with the slash without which its last part would be replaced; without user and password, with which nothing can be
 * fetched.
 *
 * @throws {@link SplitError} `url-invalid` if there can be no edge worker.
 */
export function edgeUrl(url: string | URL | undefined, page: string): string {
  const edge = url === undefined ? new URL('.', page) : parsed(url, page);
  edge.protocol = edge.protocol.replace(/^ws/, 'http');
  if (!/^https?:$/.test(edge.protocol)) {
    const why =
      url === undefined ? 'the page was not loaded from a server' : `${shown(`${url}`)} is no address of a server`;
    throw invalid(`${why}: say where the edge worker is, for example https://edge.example/`);
  }
  if (!edge.pathname.endsWith('/')) edge.pathname += '/';
  edge.search = '';
  edge.hash = '';
  return withoutCredentials(edge).href;
}

/**
 * The URL of a folder.
 *
 * @throws {@link SplitError} `url-invalid` if there can be none.
 */
export function folderUrl(url: string | URL, page: string): URL {
  const folder = parsed(url, page);
  if (!folder.pathname.endsWith('/')) folder.pathname += '/';
  return withoutCredentials(folder);
}

/** The same without user and password: browsers refuse to fetch a URL that has them, and know them anyway. */
export function withoutCredentials(url: URL): URL {
  const plain = new URL(url);
  plain.username = '';
  plain.password = '';
  return plain;
}

function parsed(url: string | URL, page: string): URL {
  const text = typeof url === 'string' || url instanceof URL ? `${url}`.trim() : undefined;
  if (!text) throw invalid(`the address must be a URL, not ${shown(url)}`);
  // Read as a URL, the name would be its scheme, or a path.
  if (/^[\w.-]+:\d+(\/|$)/.test(text))
    throw invalid(`the address ${shown(text)} lacks its scheme: http://${text} or https://${text}`);
  try {
    return new URL(text, page);
  } catch (cause) {
    throw invalid(`the address ${shown(text)} is no URL, for example https://edge.example/`, cause);
  }
}

function invalid(why: string, cause?: unknown): SplitError {
  return new SplitError('url-invalid', why, { cause });
}
