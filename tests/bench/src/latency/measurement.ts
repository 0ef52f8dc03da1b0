import { type Link, transmissionMs } from '../links.js';
import type { Measured } from '../page.js';
import type { Point } from '../series.js';
import { mean, median, quantile } from '../statistics.js';

/** What is compared, by the letters of the table. */
export const SIDES = {
  a: 'device only, onnxruntime-web',
  b: 'device only, ours',
  c: 'edge only, the picture as a file',
  d: 'split, ours',
  e: 'ours, free to choose',
};

/** Those of the table, and `p`: the unpruned network, split and sent with 8 bits a value, which the paper compares with. */
export type Side = keyof typeof SIDES | 'p';

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
  variant: string;
  split: string;
  codec: string;
  /** Top-1 in percent. */
  accuracy: number;
  frames: number;
  /** From frame to label, as a user feels it. */
  totalMs: number;
  total95Ms: number;
  /** Computing on both sides; without coding for the side that stands for the paper's, which sends bytes as they are. */
  computeMs: number;
  stages: Record<Stage, number>;
  messageBytes: number;
  meanMessageBytes: number;
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
}

/** Sums results up. */
export function measurement({ side, factor, link, modelled, point }: Subject, results: Measured[]): Measurement {
  const scaled = results.map((it) => slower(it, modelled));
  const of = (value: (result: Measured) => number) => median(scaled.map(value));
  const { variant, split, codec, accuracy } = point;
  const totalsMs = scaled.map((it) => it.timings.total);
  return {
    side,
    factor,
    link: link.name,
    variant,
    split,
    codec,
    accuracy,
    frames: results.length,
    totalMs: median(totalsMs),
    total95Ms: quantile(totalsMs, 0.95),
    computeMs: of((it) => computeMs(it, side)),
    stages: Object.fromEntries(STAGES.map((stage) => [stage, of((it) => it.timings[stage])])) as Record<Stage, number>,
    messageBytes: of((it) => it.messageBytes),
    meanMessageBytes: mean(scaled.map((it) => it.messageBytes)),
    totalsMs,
  };
}

/** The paper's latency: computing on both sides, and the bytes over the link's rate. */
export function paperMs({ computeMs, messageBytes }: Measurement, link: Link): number {
  return computeMs + transmissionMs(link, messageBytes);
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

function computeMs({ timings }: Measured, side: Side): number {
  const { normalize, head, encode, decode, tail } = timings;
  return normalize + head + tail + (side === 'p' ? 0 : encode + decode);
}
