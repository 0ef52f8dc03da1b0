import type { Diagnosis, Selection, SplitClient } from 'split-inference';

import { element, html } from '../dom.js';
import { bytes, milliseconds } from '../words.js';

/** How often it is looked at. */
const PERIOD_MS = 1000;
/** How many estimates of the link say how certain the last one is. */
const ESTIMATES = 60;

/** What experts want to know: binary, cold start, measured profile, link estimate. */
export class DebugView {
  readonly #list = element('diagnosis', HTMLElement);
  readonly #links: NonNullable<Selection['link']>[] = [];
  #firstResultMs: number | undefined;

  constructor() {
    element('debug', HTMLElement).hidden = false;
  }

  /** Looks at a client from now on. */
  use(client: SplitClient): void {
    const look = async () => {
      const { link } = client.selection ?? {};
      if (link) this.#links.push(link);
      if (this.#links.length > ESTIMATES) this.#links.shift();
      this.#show(await client.diagnose(), client);
    };
    const timer = setInterval(() => look().catch(() => clearInterval(timer)), PERIOD_MS);
  }

  /** The first result is the end of the cold start. */
  answered(): void {
    this.#firstResultMs ??= performance.now();
  }

  #show({ binary, binaryBytes, startMs, profile }: Diagnosis, { selection, series }: SplitClient): void {
    const head = series.points[selection?.point ?? series.defaultPoint];
    const entries: Record<string, string> = {
      Binary: `${binary === 'relaxed' ? 'relaxed SIMD' : 'SIMD'}, ${bytes(binaryBytes)} unpacked`,
      'Head in use': `${bytes(head?.headBytes ?? 0)}, ${((head?.headMacs ?? 0) / 1e6).toFixed(1)} million MACs`,
      'Web worker': `program after ${time(startMs.program)}, manifest ${time(startMs.manifest)}, ready ${time(startMs.ready)}`,
      'First result':
        this.#firstResultMs === undefined ? '–' : `${time(this.#firstResultMs)} after the page was asked for`,
      Link: this.#link(),
      'Series digest': series.digest,
      Profile: JSON.stringify(profile, rounded),
    };
    const made = Object.entries(entries).flatMap(([name, text]) => [html('dt', {}, name), html('dd', {}, text)]);
    this.#list.replaceChildren(...made);
  }

  /** The estimate, and between what the last ones were: four fifths of them. */
  #link(): string {
    const last = this.#links.at(-1);
    if (!last) return 'not measured';
    const rates = spread(this.#links.map((it) => it.rateBytesPerSecond).filter((it) => it !== null));
    const trips = spread(this.#links.map((it) => it.roundTripMs));
    const { rateBytesPerSecond, roundTripMs } = last;
    const range = rates ? ` (${bytes(rates.low)} to ${bytes(rates.high)})` : '';
    const rate = rateBytesPerSecond === null ? 'too fast to tell the rate' : `${bytes(rateBytesPerSecond)} per second`;
    return `${rate}${range}, round trip ${time(roundTripMs)} (${time(trips?.low ?? 0)} to ${time(trips?.high ?? 0)})`;
  }
}

/** Between what four fifths of the numbers are; undefined for none. */
function spread(numbers: number[]): { low: number; high: number } | undefined {
  const sorted = numbers.sort((a, b) => a - b);
  const [low, high] = [sorted[Math.floor(sorted.length / 10)], sorted[Math.floor((9 * sorted.length) / 10)]];
  return low === undefined || high === undefined ? undefined : { low, high };
}

function time(value: number): string {
  return `${milliseconds(value)} ms`;
}

/** Six digits are worth reading. */
function rounded(_key: string, value: unknown): unknown {
  if (value instanceof Map) return Object.fromEntries(value);
  return typeof value === 'number' ? Number(value.toPrecision(6)) : value;
}
