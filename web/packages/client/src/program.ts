import { asSplitError, SplitError } from './errors.js';
import { checkBrowser, hasRelaxedSimd } from './features.js';

/** What is used of either binary; both come from the same source. */
export type Program = typeof import('../wasm/simd/split_client.js');

/** Loads the binary that suits this browser, compiling it while it arrives. */
export async function loadProgram(onBytes: (bytes: number) => void): Promise<Program> {
  checkBrowser();
  try {
    return hasRelaxedSimd()
      ? await start(
          import('../wasm/relaxed/split_client.js'),
          fetchCounted(new URL('../wasm/relaxed/split_client_bg.wasm', import.meta.url), onBytes),
        )
      : await start(
          import('../wasm/simd/split_client.js'),
          fetchCounted(new URL('../wasm/simd/split_client_bg.wasm', import.meta.url), onBytes),
        );
  } catch (thrown) {
    const { code, message } = asSplitError(thrown, 'download-failed');
    throw new SplitError(code, `the program cannot be loaded: ${message}`, { cause: thrown });
  }
}

/** Both files are fetched at once. */
async function start(script: Promise<Program>, binary: Promise<Response>): Promise<Program> {
  const [program, response] = await Promise.all([script, binary]);
  await program.default({ module_or_path: response });
  return program;
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
