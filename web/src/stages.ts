import type { Timings } from 'split-inference';

/** A stage of a frame's way. */
export type Stage = Exclude<keyof Timings, 'total'>;

/** The stages in their order, and where each happens. */
export const STAGES: readonly { stage: Stage; place: 'device' | 'link' | 'edge' }[] = [
  { stage: 'capture', place: 'device' },
  { stage: 'normalize', place: 'device' },
  { stage: 'head', place: 'device' },
  { stage: 'encode', place: 'device' },
  { stage: 'network', place: 'link' },
  { stage: 'queue', place: 'edge' },
  { stage: 'decode', place: 'edge' },
  { stage: 'tail', place: 'edge' },
];

/** What of a frame's time is shown: of each stage, between the stages, and all of it. */
export type Share = Stage | 'waiting' | 'total';

/** A share of a frame's time, in milliseconds. Between its stages a frame waits, for a part of the network or for the one before. */
export function timeOf(timings: Timings, share: Share): number {
  if (share !== 'waiting') return timings[share];
  return STAGES.reduce((rest, { stage }) => Math.max(0, rest - timings[stage]), timings.total);
}
