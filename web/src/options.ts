import { MODES, type Mode } from './mode.js';
import { DEVICES, LINKS, type Slower } from './slower.js';

/** What the page starts with. */
export interface Start {
  source: 'camera' | 'sample' | 'none';
  /** Of the sample, only the picture at this place. */
  picture?: number | undefined;
}

/** What the controls of the goal are set to. */
export interface Wish {
  goal: 'latency' | 'accuracy';
  /** Least accuracy, in percent. */
  floor?: number | undefined;
  /** Most latency, in milliseconds. */
  ceiling?: number | undefined;
  mode: Mode;
  /** This operating point, not one that is chosen. */
  point?: number | undefined;
}

/** What the URL of the page asks for. */
export interface Options {
  /** `?source=`, `?picture=`: what is shown at the start. */
  start: Start;
  /** `?pixels`: whether results carry what the network saw. */
  pixels: boolean;
  /** `?debug`: whether experts see more. */
  debug: boolean;
  /** `?edge=`: another edge worker than the one that serves the page. */
  edge: string | undefined;
  /** `?series=`: the series to use instead of the edge worker's default. */
  series: string | undefined;
  /** `?goal=`, `?floor=`, `?ceiling=`, `?mode=`, `?point=`: how the operating point is chosen; parts that are missing are left as they are. */
  wish: Partial<Wish>;
  /** `?link=`, `?device=`: what is made slower; undefined if the URL says nothing. */
  slower: Slower | undefined;
  /** `#token=`: access token. Behind the `#`, since browsers do not send that to servers that log it. */
  token: string | undefined;
}

/** Reads the options out of the page's URL. What makes no sense is left out. */
export function readOptions({ search, hash }: Pick<Location, 'search' | 'hash'>): Options {
  const parameters = new URLSearchParams(search);
  return {
    start: { source: startSource(parameters.get('source')), picture: place(parameters.get('picture')) },
    pixels: parameters.has('pixels'),
    debug: parameters.has('debug'),
    // Those that are empty say nothing.
    edge: parameters.get('edge') || undefined,
    series: parameters.get('series') || undefined,
    wish: readWish(parameters),
    slower: readSlower(parameters),
    token: tokenOf(hash),
  };
}

/** All of the fragment behind `#token=`, which may hold any character; those that are escaped are what they stand for. */
function tokenOf(hash: string): string | undefined {
  const token = /^#token=(.+)$/s.exec(hash)?.[1];
  try {
    return token && decodeURIComponent(token);
  } catch {
    return token;
  }
}

/** The page's URL with these choices, without a token: a link is to be passed on. */
export function linkTo(
  { href }: Pick<Location, 'href'>,
  wish: Wish,
  slower: Slower,
  series: string | undefined,
  start: Start | undefined,
): string {
  const url = new URL(href);
  url.hash = '';
  const values: Record<string, string | number | undefined> = {
    source: start?.source,
    picture: start?.picture,
    series,
    goal: wish.goal,
    floor: wish.floor,
    ceiling: wish.ceiling,
    mode: wish.mode,
    point: wish.point,
    link: slower.link > 0 ? LINKS[slower.link]?.name : undefined,
    device: slower.device > 1 ? slower.device : undefined,
  };
  for (const [name, value] of Object.entries(values)) {
    if (value === undefined) url.searchParams.delete(name);
    else url.searchParams.set(name, `${value}`);
  }
  return url.href;
}

/** The page's URL for another series: what it says of operating points is of the one before. */
export function linkToSeries({ href }: Pick<Location, 'href'>, series: string): string {
  const url = new URL(href);
  url.searchParams.set('series', series);
  for (const name of ['floor', 'point', 'picture']) url.searchParams.delete(name);
  return url.href;
}

function readWish(parameters: URLSearchParams): Partial<Wish> {
  const goal = parameters.get('goal');
  const mode = MODES.find((it) => it === parameters.get('mode'));
  return {
    ...((goal === 'latency' || goal === 'accuracy') && { goal }),
    ...(mode && { mode }),
    floor: number(parameters.get('floor')),
    ceiling: number(parameters.get('ceiling')),
    point: place(parameters.get('point')),
  };
}

function readSlower(parameters: URLSearchParams): Slower | undefined {
  if (!parameters.has('link') && !parameters.has('device')) return undefined;
  const link = LINKS.findIndex((it) => it.name === parameters.get('link'));
  const device = DEVICES.find((it) => it === Number(parameters.get('device')));
  return { link: Math.max(link, 0), device: device ?? 1 };
}

function number(text: string | null): number | undefined {
  const value = Number.parseFloat(text ?? '');
  return value > 0 && value < 1e6 ? value : undefined;
}

function place(text: string | null): number | undefined {
  return /^\d+$/.test(text ?? '') ? Number(text) : undefined;
}

function startSource(text: string | null): Start['source'] {
  return text === 'camera' || text === 'none' ? text : 'sample';
}
