import { Passing, persistently, SILENT, Watch } from './download.js';
import { asSplitError, SplitError } from './errors.js';
import { checkBrowser, hasRelaxedSimd } from './features.js';
import type { SIZES } from './sizes.js';
import { withoutCredentials } from './urls.js';

/** A binary that takes longer comes over a slow link: only then is there progress to see. */
const SLOW_MS = 200;

/** What is used of either binary; both come from the same source. */
export type Program = typeof import('../wasm/simd/split_client.js');

/** The binary that suits this browser. */
export function binaryName(): keyof typeof SIZES {
  return hasRelaxedSimd() ? 'relaxed' : 'simd';
}

/** Loads the binary that suits this browser, compiling it while it arrives. What breaks off is begun again, twice at most. */
export function loadProgram(onBytes: (bytes: number) => void): Promise<Program> {
  checkBrowser();
  return persistently(() => attempt(onBytes));
}

async function attempt(onBytes: (bytes: number) => void): Promise<Program> {
  const watch = new Watch();
  const program =
    binaryName() === 'relaxed'
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
    const isFinal = thrown instanceof SplitError || watch.signal.aborted;
    const text = `the program cannot be loaded: ${watch.signal.aborted ? SILENT : message}`;
    throw isFinal ? new SplitError(code, text, { cause: thrown }) : new Passing(text, { cause: thrown });
  } finally {
    watch.end();
  }
}

/** Both files are fetched at once. */
async function start(script: Promise<Program>, binary: Promise<Counted>): Promise<Program> {
  const [program, { response, stop }] = await Promise.all([script, binary]);
  try {
    await program.default({ module_or_path: response });
  } finally {
    stop();
  }
  return program;
}

interface Counted {
  response: Response;
  /** To be called once the response was read: ends the counting. */
  stop: () => void;
}

/**
 * The file's response, as it came from the network or the cache: browsers compile that without a detour through scripts.
 *
 * Over a slow link, what arrives of it is counted on a copy; where it is there at once, reading it twice would cost more than it tells.
 */
async function fetchCounted(url: URL, watch: Watch, onBytes: (bytes: number) => void): Promise<Counted> {
  const response = await fetch(withoutCredentials(url), { signal: watch.signal }).catch((cause) => {
    throw new Error('the server cannot be reached', { cause });
  });
  if (!response.ok) throw new SplitError('download-failed', `the server answered ${response.status}`);
  watch.alive();
  const copy = response.clone();
  // A download that breaks off is told by whoever compiles it.
  const timer = setTimeout(() => count(copy, watch, onBytes).catch(() => {}), SLOW_MS);
  const stop = () => {
    clearTimeout(timer);
    // What is being read is at its end; the rest is of no use.
    if (!copy.bodyUsed) copy.body?.cancel().catch(() => {});
  };
  return { response, stop };
}

async function count({ body }: Response, watch: Watch, onBytes: (bytes: number) => void): Promise<void> {
  const reader = body?.getReader();
  for (let part = await reader?.read(); part && !part.done; part = await reader?.read()) {
    watch.alive();
    onBytes(part.value.length);
  }
  // Compiling what has arrived takes as long as it takes.
  watch.end();
}
