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
