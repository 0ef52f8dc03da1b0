/** Names for the kinds of errors; they do not change between releases. */
export type ErrorCode =
  /** The caller's `AbortSignal` fired. */
  | 'aborted'
  /** The client was closed. */
  | 'closed'
  /** A newer frame took this one's place before it was looked at. */
  | 'superseded'
  /** The edge worker had no capacity for this frame, or too many frames were in flight. */
  | 'busy'
  | 'no-credit'
  /** The connection ended before the answer came. */
  | 'connection-lost'
  | 'offline'
  /** The source has no picture yet. */
  | 'source-not-ready'
  /** The source never has a picture that this page may use: it is closed, of another origin, or of another type. */
  | 'source-invalid'
  /** The browser gives no pixels of pictures, against fingerprinting. */
  | 'canvas-blocked'
  | 'frame-size'
  | 'wrong-input'
  /** The browser lacks something. */
  | 'no-worker'
  | 'no-wasm'
  | 'no-simd'
  /** The web worker could not be loaded or died. */
  | 'worker-failed'
  /** The manifest or a part of the network could not be downloaded. */
  | 'download-failed'
  /** The edge worker does not serve the series that was asked for. */
  | 'no-such-series'
  | 'segment-damaged'
  | 'segment-invalid'
  | 'manifest-version'
  | 'manifest-invalid'
  /** Page and edge worker disagree: loading the page anew helps. */
  | 'manifest-mismatch'
  | 'protocol-version'
  | 'protocol'
  | 'unauthorized'
  | 'edge-shutting-down'
  | 'edge-failed'
  | 'limit-exceeded'
  | 'message-too-long'
  | 'no-such-point'
  | 'no-usable-point'
  | 'not-ready'
  | 'head-failed'
  | 'goal-invalid'
  /** The throttle makes no sense. */
  | 'throttle-invalid'
  /** What was given is not what this call takes. */
  | 'argument-invalid'
  /** The URL is none of an edge worker. */
  | 'url-invalid'
  /** A mistake in this package. */
  | 'internal';

/** Everything that this package throws or rejects with. */
export class SplitError extends Error {
  override readonly name = 'SplitError';
  /** What kind of error. */
  readonly code: ErrorCode;

  constructor(code: ErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/**
 * Anything thrown, as a `SplitError`: WebAssembly throws plain `{ code, message }` objects.
 * @internal
 */
export function asSplitError(thrown: unknown, otherwise: ErrorCode = 'internal'): SplitError {
  if (thrown instanceof SplitError) return thrown;
  const { code, message } = (thrown ?? {}) as { code?: unknown; message?: unknown };
  const known = typeof code === 'string' ? (code as ErrorCode) : otherwise;
  return new SplitError(known, typeof message === 'string' ? message : String(thrown), { cause: thrown });
}

/** Somebody did not want to wait any longer. */
export function aborted(signal: AbortSignal | undefined): SplitError {
  return new SplitError('aborted', 'the caller gave up waiting', { cause: signal?.reason });
}
