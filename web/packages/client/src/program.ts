import { SILENT, Watch } from './download.js';
import { asSplitError, SplitError } from './errors.js';
import { checkBrowser, hasRelaxedSimd } from './features.js';

/** Headers that take longer come over a slow link: only then is there progress to see. */
const SLOW_MS = 80;
/** Of a fast link, or of the cache, nobody sees what arrives; long before this time, everything has. */
const FAST_LIMIT_MS = 60_000;

/** What is used of either binary; both come from the same source. */
export type Program = typeof import('../wasm/simd/split_client.js');

/** Loads the binary that suits this browser, compiling it while it arrives. */
export async function loadProgram(onBytes: (bytes: number) => void): Promise<Program> {
  checkBrowser();
  const watch = new Watch();
  const program = hasRelaxedSimd()
    ? start(
        import('../wasm/relaxed/split_client.js'),
        fetchCounted(new URL('../wasm/relaxed/split_client_bg.wasm', import.meta.url), watch, onBytes),
      )
    : start(
        import('../wasm/simd/split_client.js'),
        fetchCounted(new URL('../wasm/simd/split_client_bg.wasm', import.meta.url), watch, onBytes),
      );
  try {
    return await watch.over(program);
  } catch (thrown) {
    const { code, message } = asSplitError(thrown, 'download-failed');
    const why = watch.signal.aborted ? SILENT : message;
    throw new SplitError(code, `the program cannot be loaded: ${why}`, { cause: thrown });
  } finally {
    watch.end();
  }
}

/** Both files are fetched at once. */
async function start(script: Promise<Program>, binary: Promise<Response>): Promise<Program> {
  const [program, response] = await Promise.all([script, binary]);
  await program.default({ module_or_path: response });
  return program;
}

/**
 * The file's response, as it came from the network or the cache: browsers compile that without a detour through scripts.
 *
 * Over a slow link, what arrives of it is counted on a copy; from the cache, reading it twice would cost more than it tells.
 */
async function fetchCounted(url: URL, watch: Watch, onBytes: (bytes: number) => void): Promise<Response> {
  const began = performance.now();
  const response = await fetch(url, { signal: watch.signal });
  if (!response.ok) throw new SplitError('download-failed', `the server answered ${response.status}`);
  const isSlow = performance.now() - began > SLOW_MS;
  watch.alive(isSlow ? undefined : FAST_LIMIT_MS);
  // A download that breaks off is told by whoever compiles it.
  if (isSlow) count(response.clone(), watch, onBytes).catch(() => {});
  return response;
}

async function count({ body }: Response, watch: Watch, onBytes: (bytes: number) => void): Promise<void> {
  const reader = body?.getReader();
  for (let part = await reader?.read(); part && !part.done; part = await reader?.read()) {
    watch.alive();
    onBytes(part.value.length);
  }
}
