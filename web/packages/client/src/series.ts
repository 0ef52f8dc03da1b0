import { download } from './download.js';
import { SplitError } from './errors.js';
import type { SeriesSummary } from './types.js';
import { manifestUrl, seriesUrl } from './urls.js';

/** The list of series as the edge worker sends it. */
interface SeriesList {
  default: string;
  series: (Pick<SeriesSummary, 'network' | 'classes' | 'width' | 'height' | 'accuracy'> & {
    name: string;
    least_bytes: number;
    most_bytes: number;
  })[];
}

/** The most bytes of a manifest, and of a list of series. */
const LIMIT = 64 << 20;

/**
 * The manifest of a series, of the default one if none is named.
 *
 * Always revalidated: the edge worker may have loaded other series, and refuses clients that come with an old manifest.
 */
export async function downloadManifest(
  edge: string,
  series?: string,
  cache: RequestCache = 'no-cache',
): Promise<Uint8Array> {
  try {
    return await download({ url: manifestUrl(edge, series), limit: LIMIT, cache });
  } catch (thrown) {
    const isMissing = thrown instanceof SplitError && thrown.cause instanceof Response && thrown.cause.status === 404;
    if (series === undefined || !isMissing) throw thrown;
    throw new SplitError('no-such-series', `the edge worker has no series '${series}'`, { cause: thrown });
  }
}

/** What the edge worker says of every series that it serves. */
export async function listSeries(edge: string): Promise<SeriesSummary[]> {
  const url = seriesUrl(edge);
  const text = new TextDecoder().decode(await download({ url, limit: LIMIT, cache: 'no-cache' }));
  try {
    const list: SeriesList = JSON.parse(text);
    return list.series.map(({ name, least_bytes: leastBytes, most_bytes: mostBytes, ...others }) => {
      return { ...others, series: name, leastBytes, mostBytes, isDefault: name === list.default };
    });
  } catch (cause) {
    throw new SplitError('download-failed', `${url.href} is no list of series`, { cause });
  }
}
