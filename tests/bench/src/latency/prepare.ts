import { existsSync, mkdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';

import { run } from '../machine.js';
import { Series } from '../series.js';

/** Frames in a second: so few that a frame seldom waits for the one before it, which would measure the rate and not the latency. */
const CLIP_RATE = 8;

/** Where things are. */
interface Places {
  programs: string;
  series: string;
  checkpoint: string;
  data: string;
  work: string;
}

/** What the benchmark works on. */
export interface Files {
  series: Series;
  /** The unpruned network, with one operating point at every split point. */
  unpruned: Series;
  /** Folder of ONNX files. */
  onnx: string;
  /** What the camera sees. */
  clip: string;
}

/** Makes everything that is not there yet. */
export async function prepare({ programs, series: folder, checkpoint, data, work }: Places): Promise<Files> {
  mkdirSync(work, { recursive: true });
  const series = await Series.open(folder);
  const make = (...parameters: string[]) => run(join(programs, 'prepare'), parameters);
  const onnx = join(work, 'onnx');
  rmSync(onnx, { recursive: true, force: true });
  make('onnx', '--series', folder, '--to', onnx);
  const clip = join(work, 'clip.y4m');
  make('clip', '--data', data, '--to', clip, '--size', `${series.size}`, '--rate', `${CLIP_RATE}`);
  const unpruned = join(work, 'unpruned');
  const manifest = join(unpruned, 'manifest.json');
  const current = existsSync(manifest) && formatOf(manifest) === series.format;
  if (!current || statSync(manifest).mtimeMs < statSync(checkpoint).mtimeMs) {
    const few = join(work, 'data');
    make('thin', '--data', data, '--to', few);
    const exported = ['--checkpoint', checkpoint, '--series', unpruned, '--data', few];
    run(join(programs, 'trainer'), ['export', ...exported]);
    make('baseline', '--series', unpruned, '--data', few);
  }
  return { series, unpruned: await Series.open(unpruned), onnx, clip };
}

/** Read without the rest, which is another's in an older release's manifest. */
function formatOf(manifest: string): number {
  return JSON.parse(readFileSync(manifest, 'utf8')).format;
}
