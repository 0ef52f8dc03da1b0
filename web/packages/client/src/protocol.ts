import type { ErrorCode } from './errors.js';
import type {
  Diagnosis,
  Goal,
  Problem,
  Progress,
  Result,
  Selection,
  Series,
  StateChange,
  Throttle,
  Timings,
} from './types.js';

/** What the page says to the web worker. */
export type Request =
  | { type: 'start'; url: string; series?: string; goal?: Goal; token?: string; pixels: boolean }
  | { type: 'frame'; frame: number; source: VideoFrame | ImageBitmap | ImageData; delivery?: number }
  | { type: 'goal'; goal: Goal }
  | { type: 'throttle'; throttle: Throttle }
  | { type: 'reconnect' }
  | { type: 'diagnose' }
  | { type: 'close' };

/** What the web worker says to the page. */
export type Response =
  /** Its scripts are loaded. */
  | { type: 'started' }
  | { type: 'ready'; series: Series }
  | { type: 'failed'; code: ErrorCode; message: string }
  | { type: 'progress'; progress: Progress }
  | { type: 'state'; change: StateChange }
  /** Another frame would not have to wait. */
  | { type: 'free' }
  | { type: 'selection'; selection: Selection }
  | { type: 'problem'; problem: Problem }
  | { type: 'diagnosis'; diagnosis: Diagnosis }
  | { type: 'result'; result: Answered }
  | { type: 'dropped'; frame: number; code: ErrorCode; message: string }
  /** It has said goodbye to the edge worker, and can be ended. */
  | { type: 'closed' };

/**
 * A result, without the times that only the page knows.
 *
 * The clocks of page and web worker may be hours apart after the device has slept, so that neither makes use of the other's.
 */
export interface Answered extends Omit<Result, 'timings'> {
  timings: Omit<Timings, 'capture' | 'total'>;
  /** From pixels of the network's size to this message, in milliseconds. */
  sinceCapture: number;
  /** From the picture's arrival in the web worker. What the page measures beyond that is the delivery: the picture's way there and the result's way back. */
  sinceArrival: number;
}
