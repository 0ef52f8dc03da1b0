import { type Goal, type Result, type SplitClient, SplitError } from 'split-inference';

import type { Mode } from './options.js';
import { placeOf } from './words.js';

/** Pictures that every way of working gets. */
export const PICTURES = 20;
/** How many frames a way may take to get ready: until its head is loaded and the link measured. */
const WARM_UPS = 200;
/** Frames before those that count, once a way is in use: the first ones measure what the choice depends on. */
const SETTLING = 5;

/** What one way of working did with the pictures. */
export interface Comparison {
  results: Result[];
  /** Why there are none. */
  problem?: string;
}

/** Pictures of what is shown now, a painting apart. */
export async function takePictures(
  source: HTMLCanvasElement | HTMLVideoElement,
  onPicture: (count: number) => void,
): Promise<ImageBitmap[]> {
  const pictures: ImageBitmap[] = [];
  while (pictures.length < PICTURES) {
    pictures.push(await createImageBitmap(source));
    onPicture(pictures.length);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  return pictures;
}

/** Runs the pictures one after the other through one way of working. */
export async function runThrough(
  client: SplitClient,
  pictures: ImageBitmap[],
  goal: Goal,
  mode: Mode,
): Promise<Comparison> {
  client.setGoal(goal);
  try {
    await warmUp(client, pictures, mode);
    const results: Result[] = [];
    for (const picture of pictures) results.push(await client.infer(await createImageBitmap(picture)));
    return { results };
  } catch (thrown) {
    if (!(thrown instanceof SplitError)) throw thrown;
    return { results: [], problem: thrown.message };
  }
}

async function warmUp(client: SplitClient, [picture]: ImageBitmap[], mode: Mode): Promise<void> {
  let settled = 0;
  for (let at = 0; picture && at < WARM_UPS && settled < SETTLING; at += 1) {
    const { point } = await client.infer(await createImageBitmap(picture));
    const { split } = client.series.points[point] ?? {};
    const isMeant = split !== undefined && (mode === 'automatic' || modeOf(split) === mode);
    if (isMeant) settled += 1;
  }
  if (settled < SETTLING) throw new SplitError('no-usable-point', 'not possible now: there is no connection');
}

function modeOf(split: string): Mode {
  const place = placeOf({ split });
  return place === 'both' ? 'split' : place;
}
