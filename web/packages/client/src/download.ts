import { SplitError } from './errors.js';
import { pause } from './pause.js';

/** A download of which nothing arrives for so long is given up. */
const STALL_MS = 20_000;

/** Pauses before what broke off is tried again. */
const PAUSES_MS = [500, 1000];

/** Why what is watched was given up. */
export const SILENT = 'nothing arrives any more';

/** What is fetched. */
export interface Wanted {
  url: URL;
  /** The most bytes that it may have. */
  limit: number;
  cache?: RequestCache;
}

/** Fetches a file, telling how many bytes came with each chunk. A download that breaks off is begun again, twice at most. */
export function download(wanted: Wanted, onBytes?: (bytes: number) => void): Promise<Uint8Array> {
  return persistently(() => attempt(wanted, onBytes));
}

/** Tries again, after pauses, what failed for a reason that may pass. */
export async function persistently<Done>(work: () => Promise<Done>): Promise<Done> {
  for (const pauseMs of PAUSES_MS) {
    try {
      return await work();
    } catch (thrown) {
      if (!(thrown instanceof Passing)) throw thrown;
      await pause(pauseMs);
    }
  }
  return work();
}

/** A download that failed, but may not the next time. */
export class Passing extends SplitError {
  constructor(message: string, options?: ErrorOptions) {
    super('download-failed', message, options);
  }
}

async function attempt({ url, limit, cache }: Wanted, onBytes?: (bytes: number) => void): Promise<Uint8Array> {
  const watch = new Watch();
  const parts: Uint8Array[] = [];
  let length = 0;
  try {
    const response = await request(url, { signal: watch.signal, ...(cache && { cache }) });
    const reader = response.body?.getReader();
    for (let part = await reader?.read(); part && !part.done; part = await reader?.read()) {
      watch.alive();
      parts.push(part.value);
      length += part.value.length;
      if (length > limit) {
        reader?.cancel().catch(() => undefined);
        throw failed(url, `it is longer than the ${limit} bytes that it may have`);
      }
      onBytes?.(part.value.length);
    }
  } catch (cause) {
    if (cause instanceof SplitError) throw cause;
    throw watch.signal.aborted ? failed(url, SILENT, cause) : broken(url, 'the download broke off', cause);
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
    throw init.signal?.aborted ? failed(url, SILENT, cause) : broken(url, 'the server cannot be reached', cause);
  }
  if (response.ok) return response;
  const why = `the server answered ${response.status} ${response.statusText}`.trim();
  throw response.status >= 500 ? broken(url, why) : failed(url, why, response);
}

function broken(url: URL, why: string, cause?: unknown): Passing {
  return new Passing(`${url.href} cannot be loaded: ${why}`, { cause });
}

function failed(url: URL, why: string, cause?: unknown): SplitError {
  return new SplitError('download-failed', `${url.href} cannot be loaded: ${why}`, { cause });
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
