/** What the page starts with. */
export type StartSource = 'camera' | 'sample' | 'none';

/** What the URL of the page asks for. */
export interface Options {
  /** `?source=`: what is shown at the start. */
  source: StartSource;
  /** `?pixels`: whether results carry what the network saw. */
  pixels: boolean;
  /** `?edge=`: another edge worker than the one that serves the page. */
  edge: string | undefined;
  /** `?point=`: this operating point, not one that is chosen. */
  point: number | undefined;
  /** `#token=`: access token. Behind the `#`, since browsers do not send that to servers that log it. */
  token: string | undefined;
}

/** Reads the options out of the page's URL. */
export function readOptions({ search, hash }: Pick<Location, 'search' | 'hash'>): Options {
  const parameters = new URLSearchParams(search);
  const point = parameters.get('point');
  return {
    source: startSource(parameters.get('source')),
    pixels: parameters.has('pixels'),
    edge: parameters.get('edge') ?? undefined,
    point: point !== null && /^\d+$/.test(point) ? Number(point) : undefined,
    token: new URLSearchParams(hash.slice(1)).get('token') ?? undefined,
  };
}

function startSource(text: string | null): StartSource {
  return text === 'camera' || text === 'none' ? text : 'sample';
}
