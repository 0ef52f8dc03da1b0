import type { Result, Series } from 'split-inference';

import { LINKS, type Slower } from './slower.js';
import { STAGES, type Stage } from './stages.js';

/** How many frames are kept: ten minutes at 30 frames per second. */
const CAPACITY = 18_000;

/** Columns of the numbers that are kept of a frame. */
const COLUMNS = [
  'frame',
  'time',
  'class',
  'probability',
  'point',
  'bytes',
  'link',
  'device',
  'total',
  ...STAGES.map((it) => it.stage),
] as const;
type Column = (typeof COLUMNS)[number];

/** One frame's measurements. */
export interface Measurement {
  frame: number;
  /** When its result came, ISO 8601. */
  time: string;
  label: string;
  probability: number;
  /** Place of the operating point in the series. */
  point: number;
  variant: string;
  split: string;
  codec: string;
  messageBytes: number;
  /** What the link was made like, `none` if it was left as it is. */
  linkThrottle: string;
  /** How many times as long everything took on the device, on purpose. */
  deviceThrottle: number;
  /** In milliseconds. */
  timings: Record<Stage | 'total', number>;
}

/** The measurements of the last frames. They take the same room however long the page runs. */
export class Session {
  readonly #rows = new Float64Array(CAPACITY * COLUMNS.length);
  #count = 0;

  /** How many frames were measured, also those that are no longer kept. */
  get count(): number {
    return this.#count;
  }

  /** Forgets everything: operating points are of one series only. */
  clear(): void {
    this.#count = 0;
  }

  /** Keeps a result, in place of the oldest if there is no room. */
  add({ frame, top, probability, point, messageBytes, timings }: Result, { link, device }: Slower): void {
    const at = (this.#count % CAPACITY) * COLUMNS.length;
    const numbers = [frame, Date.now(), top[0]?.class ?? -1, probability, point, messageBytes];
    this.#rows.set([...numbers, link, device, timings.total, ...STAGES.map((it) => timings[it.stage])], at);
    this.#count += 1;
  }

  /** What is kept, the oldest first. */
  measurements(series: Series): Measurement[] {
    const kept = Math.min(this.#count, CAPACITY);
    return Array.from({ length: kept }, (_, at) => this.#measurement(this.#count - kept + at, series));
  }

  #measurement(index: number, series: Series): Measurement {
    const at = (index % CAPACITY) * COLUMNS.length;
    const value = (column: Column) => this.#rows[at + COLUMNS.indexOf(column)] ?? 0;
    const { variant = '', split = '', codec = '' } = series.points[value('point')] ?? {};
    const stages = STAGES.map(({ stage }) => [stage, value(stage)] as const);
    return {
      frame: value('frame'),
      time: new Date(value('time')).toISOString(),
      label: series.classes[value('class')] ?? '',
      probability: value('probability'),
      point: value('point'),
      variant,
      split,
      codec,
      messageBytes: value('bytes'),
      linkThrottle: LINKS[value('link')]?.name ?? '',
      deviceThrottle: value('device'),
      timings: Object.fromEntries([...stages, ['total', value('total')]]) as Measurement['timings'],
    };
  }
}
