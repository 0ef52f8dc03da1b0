import { SplitError } from './errors.js';

/** What is used of either binary; both come from the same source. */
export type Program = typeof import('../wasm/simd/split_client.js');

/** `(func (result v128) i32.const 0 i8x16.splat)`: valid only with SIMD. */
const SIMD = [0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 8, 1, 6, 0, 65, 0, 253, 15, 11];
/** The same with `i8x16.relaxed_swizzle`: valid only with relaxed SIMD. */
const RELAXED = [
  0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 15, 1, 13, 0, 65, 1, 253, 15, 65, 2, 253, 15,
  253, 128, 2, 11,
];

/** Loads the binary that suits this browser, compiling it while it arrives. */
export async function loadProgram(): Promise<Program> {
  if (typeof WebAssembly !== 'object') {
    throw new SplitError('no-wasm', 'this browser does not run WebAssembly, or it is switched off');
  }
  if (!WebAssembly.validate(new Uint8Array(SIMD))) {
    throw new SplitError('no-simd', 'this browser does not run WebAssembly SIMD');
  }
  const relaxed = WebAssembly.validate(new Uint8Array(RELAXED));
  const program = relaxed
    ? await import('../wasm/relaxed/split_client.js')
    : await import('../wasm/simd/split_client.js');
  await program.default();
  return program;
}
