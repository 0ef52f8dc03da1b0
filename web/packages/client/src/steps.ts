import type { ErrorCode } from './errors.js';
import type { Answered } from './protocol.js';
import type { Selection } from './types.js';

/** A segment of a head, or a codec, to be downloaded; the path is relative to the manifest. */
export interface File {
  path: string;
  sha256: string;
  bytes: number;
}

/** What became of a frame. */
export type Outcome =
  /** Without pixels, which come beside it if they were asked for. */
  | { type: 'answer'; result: Answered; rgba?: Uint8ClampedArray<ArrayBuffer> }
  | { type: 'dropped'; frame: number; code: ErrorCode; message: string };

/** What the WebAssembly client wants to be done; wasm-bindgen has no types for it. */
export type Step = { selection?: Selection } & (
  | Outcome
  | { type: 'load'; point: number; files: File[] }
  | { type: 'prepare'; point: number }
  /** The picture that waits is to be read. */
  | { type: 'capture' }
  /** These pixels are to be coded as an image file. */
  | { type: 'encode'; frame: number; point: number; rgba: Uint8ClampedArray<ArrayBuffer> }
  | { type: 'sent' }
  /** No frame waits, and one would go at once. */
  | { type: 'free' }
  | { type: 'wait'; milliseconds: number }
);

/** The end of a connection. */
export interface Closed {
  code: ErrorCode;
  message: string;
  /** Whether connecting again may help. */
  retry: boolean;
}

/** What the WebAssembly client tells its listener. */
export type ClientEvent =
  | ({ selection?: Selection } & Outcome)
  | { type: 'open' }
  /** The edge worker has answered a request without ending a frame. */
  | { type: 'answered' }
  /** The edge worker asks to connect again at once; frames in flight go over the next connection. */
  | { type: 'moved' }
  | ({ type: 'closed' } & Closed);
