import { existsSync, mkdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';

import { run } from '../machine.js';
import { Series } from '../series.js';

/** Frames in a second: so few that a frame seldom waits for the one before it, which would measure the rate and not the latency. */
const CLIP_RATE = 8;
/** Pictures in the clip, and how many pixels of the camera a side one of the network's is: fewer where those are many. */
const CLIP_FRAMES = 200;
const SCALE = { small: 4, large: 2, from: 128 };
/** Name of the network before pruning, in series that have it. */
const UNPRUNED = 'unpruned';

/** Where things are. */
interface Places {
  programs: string;
  series: string;
  /** The network before pruning, for series that do not have it. */
  checkpoint: string | undefined;
  data: string;
  work: string;
}

/** What the benchmark works on. */
export interface Files {
  series: Series;
  /** The unpruned network, with one operating point at every split point; none if there is no such network. */
  unpruned: Series | undefined;
  /** Folder of ONNX files. */
  onnx: string;
  /** What the camera sees. */
  clip: string;
}

/** Makes everything that is not there yet. */
export async function prepare(places: Places): Promise<Files> {
  const { programs, series: folder, data, work } = places;
  mkdirSync(work, { recursive: true });
  const series = await Series.open(folder);
  const make = (...parameters: string[]) => run(join(programs, 'prepare'), parameters);
  const onnx = join(work, 'onnx');
  rmSync(onnx, { recursive: true, force: true });
  make('onnx', '--series', folder, '--to', onnx);
  const clip = join(work, 'clip.y4m');
  const scale = series.size < SCALE.from ? SCALE.small : SCALE.large;
  const size = [
    '--size',
    `${series.size}`,
    '--scale',
    `${scale}`,
    '--rate',
    `${CLIP_RATE}`,
    '--frames',
    `${CLIP_FRAMES}`,
  ];
  make('clip', '--data', data, '--to', clip, ...size);
  return { series, unpruned: await prepareUnpruned(places, series), onnx, clip };
}

async function prepareUnpruned({ programs, checkpoint, data, work }: Places, series: Series) {
  const source = series.has(UNPRUNED) ? join(series.folder, 'manifest.json') : checkpoint;
  if (source === undefined) return undefined;
  const unpruned = join(work, 'unpruned');
  const manifest = join(unpruned, 'manifest.json');
  const current = existsSync(manifest) && formatOf(manifest) === series.format;
  if (!current || statSync(manifest).mtimeMs < statSync(source).mtimeMs) {
    rmSync(unpruned, { recursive: true, force: true });
    let from = series.folder;
    if (!series.has(UNPRUNED)) {
      const few = join(work, 'data');
      from = join(work, 'exported');
      run(join(programs, 'prepare'), ['thin', '--data', data, '--to', few]);
      run(join(programs, 'trainer'), ['export', '--checkpoint', source, '--series', from, '--data', few]);
    }
    run(join(programs, 'prepare'), ['baseline', '--series', from, '--to', unpruned, '--data', data]);
  }
  return Series.open(unpruned);
}

/** Read without the rest, which is another's in an older release's manifest. */
function formatOf(manifest: string): number {
  return JSON.parse(readFileSync(manifest, 'utf8')).format;
}
