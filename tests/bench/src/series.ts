import { readFile } from 'node:fs/promises';
import { join } from 'node:path';

import { least } from './statistics.js';

/** The parts of a manifest that are used here. */
interface Manifest {
  format: number;
  series: string;
  input: { shape: [number, number, number] };
  unpruned: { accuracy: number };
  measured_on: { name: string; images: number };
  split_points: string[];
  /** SHA-256, bytes, output shape, multiply–accumulates and microseconds of each segment. */
  segments: [string, number, [number, number, number], number, number | null][];
  /** Variants name their segments by place, and for each split point how many of them lie before it. */
  variants: { name: string; segments: number[]; cuts: (number | null)[] }[];
  operating_points: { variant: string; split: string; codec: unknown; accuracy: number; mean_bytes: number }[];
}

/** An operating point. */
export interface Point {
  /** Place in the manifest. */
  index: number;
  variant: string;
  split: string;
  codec: string;
  accuracy: number;
  meanMessageBytes: number;
  headMacs: number;
  tailMacs: number;
  /** Microseconds of the head on the machine that the series was timed on; NaN where it was not timed. */
  headMicros: number;
}

/** Loss of accuracy that the page allows by itself, in percentage points. */
const DEFAULT_LOSS = 1.5;
/** A series on disk. */
export class Series {
  readonly folder: string;
  readonly points: Point[];
  /** Accuracy in percent that every side must reach: what the page demands by itself. */
  readonly floor: number;
  readonly #manifest: Manifest;

  private constructor(folder: string, manifest: Manifest) {
    this.folder = folder;
    this.#manifest = manifest;
    this.points = manifest.operating_points.map((_, index) => point(manifest, index));
    this.floor = Math.max(...this.points.map((it) => it.accuracy)) - DEFAULT_LOSS;
  }

  static async open(folder: string): Promise<Series> {
    return new Series(folder, JSON.parse(await readFile(join(folder, 'manifest.json'), 'utf8')));
  }

  /** Version of the manifest's format. */
  get format(): number {
    return this.#manifest.format;
  }

  get name(): string {
    return this.#manifest.series;
  }

  get size(): number {
    return this.#manifest.input.shape[2];
  }

  get splitPoints(): string[] {
    return this.#manifest.split_points;
  }

  /** What the accuracies are of. */
  get measuredOn(): string {
    const { name, images } = this.#manifest.measured_on;
    return `${images} images of ${name}; before pruning ${this.#manifest.unpruned.accuracy.toFixed(2)} %`;
  }

  /** Points between two layers that are accurate enough; the most accurate one if none is. */
  get splitting(): Point[] {
    return this.#accurate((it) => it.split !== 'input' && it.split !== 'output');
  }

  /** The network that runs whole on the device: the one of least work that is accurate enough. */
  get whole(): Point | undefined {
    return least(
      this.#accurate((it) => it.split === 'output'),
      (it) => it.headMacs,
    );
  }

  /** Places of the points that work in this way. */
  among(mode: 'device' | 'edge' | 'split'): number[] {
    const split = { device: 'output', edge: 'input' }[mode as string];
    const isMeant = (it: Point) => (split ? it.split === split : it.split !== 'input' && it.split !== 'output');
    return this.points.filter(isMeant).map((it) => it.index);
  }

  /** Whether this variant is in the series. */
  has(variant: string): boolean {
    return this.#manifest.variants.some((it) => it.name === variant);
  }

  #accurate(among: (point: Point) => boolean): Point[] {
    const points = this.points.filter(among);
    const accurate = points.filter((it) => it.accuracy >= this.floor);
    const best = least(points, (it) => -it.accuracy);
    return accurate.length > 0 || !best ? accurate : [best];
  }
}

function point(manifest: Manifest, index: number): Point {
  const it = manifest.operating_points[index];
  const variant = manifest.variants.find((variant) => variant.name === it?.variant);
  if (!it || !variant) throw new Error(`operating point ${index} is not of this manifest`);
  const { segments, cuts } = variant;
  const cut = cuts[manifest.split_points.indexOf(it.split)];
  const headSegments = it.split === 'input' ? 0 : (cut ?? segments.length);
  const macs = (of: number[]) => of.reduce((sum, place) => sum + (manifest.segments[place]?.[3] ?? 0), 0);
  const micros = (of: number[]) => of.reduce((sum, place) => sum + (manifest.segments[place]?.[4] ?? Number.NaN), 0);
  return {
    index,
    variant: it.variant,
    split: it.split,
    codec: codecName(it.codec),
    accuracy: it.accuracy,
    meanMessageBytes: it.mean_bytes,
    headMacs: macs(segments.slice(0, headSegments)),
    tailMacs: macs(segments.slice(headSegments)),
    headMicros: micros(segments.slice(0, headSegments)),
  };
}

function codecName(codec: unknown): string {
  const { features, image } = codec as { features?: { bits: number }; image?: { format: string; quality: number } };
  if (features) return `${features.bits}-bit`;
  return image ? `${image.format}-q${image.quality}` : 'none';
}
