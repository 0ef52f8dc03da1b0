import type { ErrorCode } from './errors.js';
import type { ClassProbability, Timings } from './types.js';

/** What the WebAssembly client answers to a frame; the page adds what happened around it. */
export interface Answer {
  frame: number;
  point: number;
  top: ClassProbability[];
  messageBytes: number;
  timings: Omit<Timings, 'capture' | 'total'>;
}

/** The end of a connection, with the frames whose answers will not come. */
export interface Closed {
  code: ErrorCode;
  message: string;
  /** Whether connecting again may help. */
  retry: boolean;
  frames: number[];
}

/** What the WebAssembly client tells its listener; wasm-bindgen has no types for it. */
export type ClientEvent =
  | { type: 'open'; credit: number }
  | ({ type: 'result' } & Answer)
  | { type: 'busy'; frame: number; retryMs: number }
  | { type: 'failed'; frame: number; code: ErrorCode; message: string }
  | { type: 'probed' }
  /** The edge worker asks to connect again at once; frames in flight go over the next connection. */
  | { type: 'moved' }
  | ({ type: 'closed' } & Closed);
