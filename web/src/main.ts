import { type Problem, type Result, SplitClient, SplitError, type StateChange } from 'split-inference';

import { CompareControls } from './controls/compare.js';
import { GoalControls } from './controls/goal.js';
import { SeriesControls } from './controls/series.js';
import { SlowerControls } from './controls/slower.js';
import { SourceControls } from './controls/sources.js';
import { element, html, setText } from './dom.js';
import { save, toCsv, toJson } from './export.js';
import { arrange } from './fold.js';
import { linkTo, linkToSeries, readOptions } from './options.js';
import { Page } from './page.js';
import { Player } from './player.js';
import {
  elsewhere,
  explain,
  isLoss,
  messageOf,
  needsReload,
  Problems,
  passes,
  RELOAD,
  type Remedy,
  sentence,
  topicOf,
} from './problems.js';
import { Session } from './session.js';
import { type Slower, throttleOf, wordsOf } from './slower.js';
import type { Source } from './sources/source.js';
import { DebugView } from './views/debug.js';

/** Without a result for so long, something is wrong; a device that is made slower is given this much more for each time that it is slower. */
const STALL_MS = 5000;
const STALL_MS_EACH = 1000;
/** A problem that passes is shown for so long after it was told, so that one can read it: longer than it takes the client to tell it again. */
const PASSING_MS = 8000;

/** The first pause before loading is tried again; every failure doubles it. */
const FIRST_PAUSE_MS = 1000;
const LONGEST_PAUSE_MS = 30_000;

/** What stands in a label's place. */
const WAITING = 'Waiting for a result…';
const NOTHING = 'No picture';

const options = readOptions(location);
const problems = new Problems(element('error', HTMLElement));
// Before anything else, so that a fault in what follows is told, too. Without an `error` it is only a warning.
window.addEventListener('error', ({ error }) => error && problems.show('page', messageOf(error), RELOAD));
window.addEventListener('unhandledrejection', ({ reason }) => problems.show('page', messageOf(reason), RELOAD));
/** Aborted when another series is chosen: ends the client, or loading it. */
let lifetime = new AbortController();
/** Loading has begun before the page is built. */
let opening: Promise<SplitClient> | undefined = open();
arrange();
const session = new Session();
const page = new Page(session);
const debug = options.debug ? new DebugView() : undefined;
const player = new Player({ result: show, failed: tell });
const sources = new SourceControls(problems, { source: look, paused: (isPaused) => player.pause(isPaused) });
const goals = new GoalControls((goal) => {
  client?.setGoal(goal);
  throttles.mark(goals.mode);
});
goals.wish(options.wish);
const throttles = new SlowerControls(options.slower, (slower, mode) => {
  slow(slower);
  if (mode) goals.among(mode);
});
throttles.mark(goals.mode);
const choice = new SeriesControls((series) => {
  history.pushState(null, '', linkToSeries(location, series));
  asked = series;
  change(series);
});
const comparison = new CompareControls(() => ({
  client,
  source: player.source,
  goal: (mode) => goals.goalAmong(mode),
  rest,
}));
let client: SplitClient | undefined;
/** What shows the picture. */
let shown: HTMLCanvasElement | HTMLVideoElement = element('picture', HTMLCanvasElement);
/** The series that the page's address asks for. */
let asked = options.series;
/** The next attempt to load everything, and how many have failed. */
let again: ReturnType<typeof setTimeout> | undefined;
let failures = 0;
/** From when on the problem shown is over if frames are answered. */
let overAt = Number.POSITIVE_INFINITY;
let lastResult = performance.now();

/** Loads everything. A page that cannot do so says why, and tries again by itself where that may help. */
async function connect(): Promise<void> {
  clearTimeout(again);
  again = undefined;
  const { signal } = lifetime;
  try {
    client = await (opening ?? open());
    problems.clear('client');
    begin(client, signal);
  } catch (thrown) {
    if (signal.aborted) return;
    if (thrown instanceof SplitError && thrown.code === 'no-such-series') {
      goWithoutSeries();
      return;
    }
    const canRetry = thrown instanceof SplitError && thrown.code === 'download-failed';
    const retryMs = canRetry ? Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** failures) : undefined;
    failures += 1;
    page.connection.show({ state: 'offline', ...(retryMs !== undefined && { retryMs }) });
    page.wait('No network');
    problems.show('client', [messageOf(thrown), hint(thrown)].join(' ').trim(), remedy(thrown));
    if (retryMs !== undefined) again = setTimeout(connect, retryMs);
  } finally {
    if (!signal.aborted) {
      opening = undefined;
      page.connection.loaded();
    }
  }
}

function open(): Promise<SplitClient> {
  return SplitClient.connect({
    signal: lifetime.signal,
    pixels: options.pixels,
    onProgress: (progress) => page.connection.load(progress),
    ...(options.edge !== undefined && { url: options.edge }),
    ...(options.series !== undefined && { series: options.series }),
    ...(options.token !== undefined && { token: options.token }),
    ...(options.wish.point !== undefined && { goal: { kind: 'fixed', point: options.wish.point } }),
  });
}

/** What the operators can do if the edge worker is on another server than the page. */
function hint(thrown: unknown): string {
  const blocked = thrown instanceof SplitError && thrown.code === 'download-failed';
  return blocked && options.edge !== undefined ? elsewhere(new URL(options.edge, location.href), location) : '';
}

/** What may help if there is no client; nothing does in a browser that cannot run it. */
function remedy(thrown: unknown): Remedy | undefined {
  if (!(thrown instanceof SplitError) || needsReload(thrown.code)) return RELOAD;
  if (['no-worker', 'no-wasm', 'no-simd'].includes(thrown.code)) return undefined;
  if (thrown.code !== 'no-such-point') return { label: 'Try now', run: connect };
  options.wish.point = undefined;
  goals.wish({});
  return { label: 'Go on without it', run: connect };
}

/** `signal` is aborted when the client is to be used no longer. */
function begin(client: SplitClient, signal: AbortSignal): void {
  const meanwhile =
    <Event>(listener: (event: Event) => void) =>
    (event: Event) =>
      signal.aborted || listener(event);
  client.on('state', meanwhile(changed));
  client.on(
    'selection',
    meanwhile((selection) => page.select(selection)),
  );
  client.on('problem', meanwhile(report));
  changed({ state: client.state });
  choice.show(client).catch((thrown) => signal.aborted || problems.show('page', messageOf(thrown)));
  sources.know(client.series);
  goals.show(client.series);
  // What the controls say counts: they may have been changed while the client was loading, or kept by the browser from an earlier visit.
  client.setGoal(goals.goal);
  slow(throttles.slower);
  page.use(client);
  page.wait(player.source ? WAITING : NOTHING);
  debug?.use(client);
  lastResult = performance.now();
  player.use(client);
}

/** Makes link and device slower than they are, and says so. */
function slow(slower: Slower): void {
  client?.setThrottle(throttleOf(slower));
  page.connection.slow(wordsOf(slower));
}

/** Shows what is looked at in place of what was. */
function look(source: Source | undefined): void {
  const before = shown;
  shown = source?.element ?? document.createElement('canvas');
  shown.id = 'picture';
  shown.setAttribute('aria-label', source?.name ?? 'No picture');
  if (shown instanceof HTMLCanvasElement) shown.setAttribute('role', 'img');
  before.replaceWith(shown);
  shown.parentElement?.classList.toggle('mirrored', source?.mirrored ?? false);
  lastResult = performance.now();
  if (!source) page.forget(NOTHING);
  else if (client) page.wait(WAITING);
  player.play(source);
}

/** Keeps frames away while ways of working are compared; afterwards the controls count again. */
function rest(isResting: boolean): void {
  player.use(isResting ? undefined : client);
  if (!isResting) client?.setGoal(goals.goal);
}

/** Goes over to another series, or to the edge worker's default: from now on, everything on the page is of that one. */
function change(series: string | undefined): void {
  options.series = series;
  options.wish = {};
  player.use(undefined);
  client = undefined;
  lifetime.abort();
  lifetime = new AbortController();
  opening = undefined;
  failures = 0;
  session.clear();
  page.clear();
  page.connection.show({ state: 'connecting' });
  goals.clear();
  comparison.clear();
  problems.clear('client');
  connect();
}

/** A link may name a series that this edge worker does not serve; what else it says of operating points is not of the others. */
function goWithoutSeries(): void {
  const asked = `This link was made for the series ${options.series}, which this edge worker does not serve`;
  problems.show('page', `${asked}: its default is used instead.`);
  options.series = undefined;
  options.wish = {};
  goals.wish({});
  opening = undefined;
  connect();
}

function show(result: Result): void {
  lastResult = performance.now();
  if (lastResult > overAt) {
    for (const it of ['client', 'source'] as const) problems.clear(it);
    overAt = Number.POSITIVE_INFINITY;
  }
  problems.clear('stall');
  debug?.answered();
  sources.load();
  session.add(result, throttles.slower);
  page.show(result);
  document.dispatchEvent(new CustomEvent('result', { detail: result }));
}

/** A lost connection is told where it matters; one that cannot come back by itself has its own problem. */
function changed(change: StateChange): void {
  page.connection.show(change);
  if (client?.selection) page.select(client.selection);
  if (change.state === 'connected') problems.clear('connection');
  if (!change.problem || change.retryMs === undefined) return;
  const meanwhile = 'Everything runs on this device meanwhile; connecting is tried again by itself.';
  const now: Remedy = { label: 'Try now', run: () => client?.reconnect() };
  problems.show('connection', `${sentence(change.problem.message)} ${meanwhile}`, now);
}

function report(problem: Problem): void {
  if (isLoss(problem.code)) return;
  overAt = passes(problem.code) ? performance.now() + PASSING_MS : Number.POSITIVE_INFINITY;
  page.connection.loaded();
  problems.show(topicOf(problem.code), explain(problem), needsReload(problem.code) ? RELOAD : undefined);
}

function tell(thrown: unknown): void {
  problems.show(thrown instanceof SplitError ? topicOf(thrown.code) : 'client', messageOf(thrown), RELOAD);
}

/** Says so if nothing happens any more, for whatever reason. */
function watch(): void {
  const silence = performance.now() - lastResult;
  const patience = STALL_MS + STALL_MS_EACH * (throttles.slower.device - 1);
  page.watch();
  if (!player.isPlaying || page.connection.isLoading) lastResult = performance.now();
  else if (silence > patience) problems.show('stall', stallAdvice());
}

function stallAdvice(): string {
  return client?.state === 'connected'
    ? 'No frame was answered for a while: choose another operating point, or Automatic.'
    : 'Without a connection to the edge worker only the whole network on this device can answer: choose Automatic or Device only.';
}

function exportAs(type: 'csv' | 'json'): void {
  if (!client) return;
  const { series } = client;
  const measurements = session.measurements(series);
  const name = `split-inference-${new Date().toISOString().slice(0, 19).replaceAll(':', '-')}.${type}`;
  if (type === 'csv') save(name, 'text/csv', toCsv(measurements));
  else save(name, 'application/json', toJson(measurements, series));
}

/** A link to what the controls say now. */
async function share(): Promise<void> {
  const link = linkTo(location, goals.wished, throttles.slower, client?.series.series, sources.start);
  const state = element('share-state', HTMLElement);
  try {
    await navigator.clipboard.writeText(link);
    setText(
      state,
      'The link is in the clipboard: it carries source, goal, slowdown, operating point and series; files stay here.',
    );
  } catch {
    // Browsers refuse that on pages without HTTPS.
    state.replaceChildren(html('a', { href: link }, link));
  }
}

element('share', HTMLElement).onclick = share;
element('export-csv', HTMLElement).onclick = () => exportAs('csv');
element('export-json', HTMLElement).onclick = () => exportAs('json');
window.addEventListener('online', () => again !== undefined && connect());
setInterval(watch, 1000);
window.addEventListener('popstate', () => {
  const { series } = readOptions(location);
  if (series !== asked) change(series);
  asked = series;
});
sources.begin(options.start);
connect();
