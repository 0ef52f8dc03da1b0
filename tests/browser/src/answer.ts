import { run } from './programs.js';
import type { Series } from './series.js';

/** What the network answers, computed natively. */
export interface Answer {
  /** By class. */
  probabilities: number[];
  payloadBytes: number;
  /** False if another build of the network may choose another code for one of the features. */
  certain: boolean;
}

/** Takes frames through an operating point: RGBA pixels, or image files at the split point `input`. */
export async function answer(series: Series, point: number, frames: Uint8Array[]): Promise<Answer[]> {
  const parts = frames.flatMap((it) => [length(it), it]);
  const output = await run('answer', ['--series', series.folder, '--point', `${point}`], Buffer.concat(parts));
  return output
    .trimEnd()
    .split('\n')
    .map((it) => JSON.parse(it));
}

function length(frame: Uint8Array): Uint8Array {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(frame.length);
  return bytes;
}
