import { type Goal, type Result, type SplitClient, SplitError } from 'split-inference';

import type { Mode } from './mode.js';
import type { Source } from './sources/source.js';
import { placeOf } from './words.js';

/** Pictures that every way of working gets. */
export const PICTURES = 20;
/** Time between pictures that are taken as they come. */
const APART_MS = 100;
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

/** How a comparison is watched. */
export interface Watching {
  /** Breaks it off. */
  signal: AbortSignal;
  /** Told how many pictures one way of working has answered; none while it gets ready. */
  onAnswer: (count: number) => void;
}

/** Pictures of what is shown: different ones where the source has them, else as they come. */
export async function takePictures({ element, picture }: Source, signal: AbortSignal): Promise<ImageBitmap[]> {
  const pictures: ImageBitmap[] = [];
  while (pictures.length < PICTURES) {
    signal.throwIfAborted();
    pictures.push(await (picture ? picture(pictures.length) : createImageBitmap(element)));
    if (!picture) await new Promise((resolve) => setTimeout(resolve, APART_MS));
  }
  return pictures;
}

/** Runs the pictures one after the other through one way of working. */
export async function runThrough(
  client: SplitClient,
  pictures: ImageBitmap[],
  { goal, mode }: { goal: Goal; mode: Mode },
  { signal, onAnswer }: Watching,
): Promise<Comparison> {
  client.setGoal(goal);
  try {
    onAnswer(0);
    await warmUp(client, pictures, mode, signal);
    const results: Result[] = [];
    for (const picture of pictures) {
      results.push(await client.infer(await createImageBitmap(picture), { signal }));
      onAnswer(results.length);
    }
    return { results };
  } catch (thrown) {
    if (!(thrown instanceof SplitError) || signal.aborted) throw thrown;
    return { results: [], problem: thrown.message };
  }
}

async function warmUp(client: SplitClient, [picture]: ImageBitmap[], mode: Mode, signal: AbortSignal): Promise<void> {
  let settled = 0;
  for (let at = 0; picture && at < WARM_UPS && settled < SETTLING; at += 1) {
    const { point } = await client.infer(await createImageBitmap(picture), { signal });
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
