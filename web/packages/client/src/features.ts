import { SplitError } from './errors.js';

/** `(func (result v128) i32.const 0 i8x16.splat)`: valid only with SIMD. */
const SIMD = [0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 8, 1, 6, 0, 65, 0, 253, 15, 11];
/** The same with `i8x16.relaxed_swizzle`: valid only with relaxed SIMD. */
const RELAXED = [
  0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 15, 1, 13, 0, 65, 1, 253, 15, 65, 2, 253, 15,
  253, 128, 2, 11,
];

const ADVICE = 'please use a current version of Chrome, Edge, Firefox or Safari';

/** Throws what tells the user what to do if this browser lacks something. */
export function checkBrowser(): void {
  if (typeof Worker !== 'function' && typeof WorkerGlobalScope !== 'function') {
    throw new SplitError('no-worker', `this browser does not run web workers: ${ADVICE}`);
  }
  if (typeof OffscreenCanvas !== 'function') {
    throw new SplitError('no-worker', `this browser cannot draw in a web worker: ${ADVICE}`);
  }
  if (typeof WebAssembly !== 'object') {
    throw new SplitError('no-wasm', `this browser does not run WebAssembly, or it is switched off: ${ADVICE}`);
  }
  if (!WebAssembly.validate(new Uint8Array(SIMD))) {
    throw new SplitError('no-simd', `this browser does not run WebAssembly SIMD: ${ADVICE}`);
  }
}

/** Whether the faster binary runs here. */
export function hasRelaxedSimd(): boolean {
  return WebAssembly.validate(new Uint8Array(RELAXED));
}

declare const WorkerGlobalScope: unknown;
