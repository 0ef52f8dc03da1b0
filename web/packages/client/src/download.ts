import { SplitError } from './errors.js';

/** A download of which nothing arrives for so long is given up. */
const STALL_MS = 20_000;

/** Why what is watched was given up. */
export const SILENT = 'nothing arrives any more';

/** Fetches a file, telling how many bytes came with each chunk. */
export async function download(url: URL, init: RequestInit, onBytes?: (bytes: number) => void): Promise<Uint8Array> {
  const watch = new Watch();
  const parts: Uint8Array[] = [];
  try {
    const response = await request(url, { ...init, signal: watch.signal });
    const reader = response.body?.getReader();
    for (let part = await reader?.read(); part && !part.done; part = await reader?.read()) {
      watch.alive();
      parts.push(part.value);
      onBytes?.(part.value.length);
    }
  } catch (cause) {
    if (cause instanceof SplitError) throw cause;
    throw failed(url, watch.signal.aborted ? SILENT : 'the download broke off', cause);
  } finally {
    watch.end();
  }
  return joined(parts);
}

/** Gives up what shows no sign of life. */
export class Watch {
  readonly #controller = new AbortController();
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor() {
    this.alive();
  }

  /** Aborted when it gives up. */
  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** Waits for so long from now on. */
  alive(milliseconds = STALL_MS): void {
    this.end();
    this.#timer = setTimeout(() => this.#controller.abort(), milliseconds);
  }

  /** Settles like the work, or fails when the watch gives up: for work that takes no signal. */
  over<Done>(work: Promise<Done>): Promise<Done> {
    return new Promise((resolve, reject) => {
      this.signal.addEventListener('abort', () => reject(this.signal.reason));
      work.then(resolve, reject);
    });
  }

  end(): void {
    clearTimeout(this.#timer);
  }
}

async function request(url: URL, init: RequestInit): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(url, init);
  } catch (cause) {
    throw failed(url, init.signal?.aborted ? SILENT : 'the server cannot be reached', cause);
  }
  if (!response.ok) {
    throw failed(url, `the server answered ${response.status} ${response.statusText}`.trim(), response);
  }
  return response;
}

function failed(url: URL, why: string, cause?: unknown): SplitError {
  return new SplitError('download-failed', `${url.pathname} cannot be loaded: ${why}`, { cause });
}

function joined(parts: Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((sum, it) => sum + it.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
