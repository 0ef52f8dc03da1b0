import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';

import { SHIPPED, TOY } from './places.js';

/** How a frame is coded at the split point `input`. */
export interface ImageCodec {
  format: 'webp' | 'jpeg';
  quality: number;
}

/** The parts of an operating point that are used here. */
export interface Point {
  variant: string;
  split: string;
  codec: 'none' | { image: ImageCodec } | { features: { bits: number } };
  accuracy: number;
  p95_bytes: number;
}

/** A series on disk. */
export interface Series {
  folder: string;
  classes: string[];
  points: Point[];
  /** Whether it is the real one, whose figures were measured. */
  shipped: boolean;
}

/** The series that the project ships, or a made-up one as long as there is none. */
export async function openSeries(): Promise<Series> {
  const shipped = existsSync(`${SHIPPED}/manifest.json`);
  const folder = shipped ? SHIPPED : TOY;
  const manifest = JSON.parse(await readFile(`${folder}/manifest.json`, 'utf8'));
  return { folder, shipped, classes: manifest.classes, points: manifest.operating_points };
}
