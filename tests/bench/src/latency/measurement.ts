import { type Link, transmissionMs } from '../links.js';
import type { Measured } from '../page.js';
import type { Point } from '../series.js';
import { median, quantile } from '../statistics.js';

/** What is compared, by the letters of the table. */
export const SIDES = {
  a: 'unpruned, split, 8 bits a value',
  b: 'ours, split',
  c: 'device only, onnxruntime-web',
  d: 'edge only, picture',
  e: 'ours, free to choose',
};

export type Side = keyof typeof SIDES;

const STAGES = ['capture', 'normalize', 'head', 'encode', 'network', 'queue', 'decode', 'tail'] as const;
/** Stages that take longer on a slower device. */
const ON_DEVICE: readonly string[] = ['capture', 'normalize', 'head', 'encode'];

type Stage = (typeof STAGES)[number];

/** One side under the conditions of one cell; times are medians in milliseconds. */
export interface Measurement {
  side: Side;
  /** How many times slower than this machine the device is. */
  factor: number;
  link: string;
  /** What ran, for people. */
  what: string;
  variant: string;
  split: string;
  codec: string;
  /** Top-1 in percent. */
  accuracy: number;
  frames: number;
  /** From frame to label, as a user feels it. */
  totalMs: number;
  total95Ms: number;
  /** The paper's: computing on both sides, and bytes over the link's rate. */
  paperMs: number;
  stages: Record<Stage, number>;
  messageBytes: number;
  /** Total of every frame. */
  totalsMs: number[];
}

/** What a measurement is of. */
export interface Subject {
  side: Side;
  factor: number;
  link: Link;
  /** The factor by which stages on the device are still to be multiplied: 1 unless the class is modelled. */
  modelled: number;
  point: Pick<Point, 'variant' | 'split' | 'codec' | 'accuracy'>;
  what?: string;
}

/** Sums results up. */
export function measurement({ side, factor, link, modelled, point, what }: Subject, results: Measured[]): Measurement {
  const scaled = results.map((it) => slower(it, modelled));
  const of = (value: (result: Measured) => number) => median(scaled.map(value));
  const { variant, split, codec, accuracy } = point;
  const totalsMs = scaled.map((it) => it.timings.total);
  return {
    side,
    factor,
    link: link.name,
    what: what ?? `${variant} ${split} ${codec}`,
    variant,
    split,
    codec,
    accuracy,
    frames: results.length,
    totalMs: median(totalsMs),
    total95Ms: quantile(totalsMs, 0.95),
    paperMs: of((it) => paperMs(it, side, link)),
    stages: Object.fromEntries(STAGES.map((stage) => [stage, of((it) => it.timings[stage])])) as Record<Stage, number>,
    messageBytes: of((it) => it.messageBytes),
    totalsMs,
  };
}

function slower(result: Measured, factor: number): Measured {
  const timings = { ...result.timings };
  for (const stage of STAGES) {
    if (!ON_DEVICE.includes(stage)) continue;
    timings.total += timings[stage] * (factor - 1);
    timings[stage] *= factor;
  }
  return { ...result, timings };
}

/**
 * The paper sends bytes as they are, so that its network has no coder to wait for: without encoding and decoding for the side that stands for it.
 * The time on the link is that of the bytes sent in this frame.
 */
function paperMs({ timings, messageBytes }: Measured, side: Side, link: Link): number {
  const { normalize, head, encode, decode, tail } = timings;
  const coding = side === 'a' ? 0 : encode + decode;
  return normalize + head + tail + coding + transmissionMs(link, messageBytes);
}
