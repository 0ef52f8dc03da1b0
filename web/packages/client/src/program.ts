import { asSplitError, SplitError } from './errors.js';
import { checkBrowser, hasRelaxedSimd } from './features.js';

/** What is used of either binary; both come from the same source. */
export type Program = typeof import('../wasm/simd/split_client.js');

/** Loads the binary that suits this browser, compiling it while it arrives. */
export async function loadProgram(onBytes: (bytes: number) => void): Promise<Program> {
  checkBrowser();
  try {
    const [program, binary] = hasRelaxedSimd()
      ? [import('../wasm/relaxed/split_client.js'), new URL('../wasm/relaxed/split_client_bg.wasm', import.meta.url)]
      : [import('../wasm/simd/split_client.js'), new URL('../wasm/simd/split_client_bg.wasm', import.meta.url)];
    const [loaded] = await Promise.all([program, start(program, fetchCounted(binary, onBytes))]);
    return loaded;
  } catch (thrown) {
    const cause = asSplitError(thrown, 'download-failed');
    throw new SplitError(cause.code, `the program cannot be loaded: ${cause.message}`, { cause: thrown });
  }
}

async function start(program: Promise<Program>, binary: Promise<Response>): Promise<void> {
  // Both are on their way at once; whichever fails, the other's failure is not left alone.
  const [{ default: init }, response] = await Promise.all([program, binary]);
  await init({ module_or_path: response });
}

/** The file's response, telling how many bytes came with each chunk that is read of it. */
async function fetchCounted(url: URL, onBytes: (bytes: number) => void): Promise<Response> {
  const response = await fetch(url);
  if (!response.ok) throw new SplitError('download-failed', `the server answered ${response.status}`);
  const counter = new TransformStream<Uint8Array, Uint8Array>({
    transform(chunk, controller) {
      onBytes(chunk.length);
      controller.enqueue(chunk);
    },
  });
  const { status, headers } = response;
  return new Response(response.body?.pipeThrough(counter) ?? null, { status, headers });
}
