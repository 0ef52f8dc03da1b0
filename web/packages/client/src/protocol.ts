import type { ErrorCode } from './errors.js';
import type { Diagnosis, Goal, Problem, Progress, Result, Selection, Series, StateChange, Throttle } from './types.js';

/** What the page says to the web worker. */
export type Request =
  | { type: 'start'; url: string; goal?: Goal; token?: string; pixels: boolean }
  /** `began` is in milliseconds since the epoch, the one clock that both threads share. */
  | { type: 'frame'; frame: number; source: VideoFrame | ImageBitmap | ImageData; began: number }
  | { type: 'goal'; goal: Goal }
  | { type: 'throttle'; throttle: Throttle }
  | { type: 'reconnect' }
  | { type: 'diagnose' }
  | { type: 'close' };

/** What the web worker says to the page. */
export type Response =
  | { type: 'ready'; series: Series }
  | { type: 'failed'; code: ErrorCode; message: string }
  | { type: 'progress'; progress: Progress }
  | { type: 'state'; change: StateChange }
  /** Another frame would not have to wait. */
  | { type: 'free' }
  | { type: 'selection'; selection: Selection }
  | { type: 'problem'; problem: Problem }
  | { type: 'diagnosis'; diagnosis: Diagnosis }
  | { type: 'result'; result: Result }
  | { type: 'dropped'; frame: number; code: ErrorCode; message: string };

/** Milliseconds since the epoch, as finely as the browser tells. */
export function epochMs(): number {
  return performance.timeOrigin + performance.now();
}
