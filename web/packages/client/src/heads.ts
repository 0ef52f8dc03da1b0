import type { Client } from '../wasm/simd/split_client.js';
import { download } from './download.js';
import { asSplitError, type SplitError } from './errors.js';
import type { Progress } from './types.js';

/** A segment of a head, or a codec. */
interface File {
  path: string;
  sha256: string;
  bytes: number;
}

/** How long a head that could not be loaded is left alone. */
const PAUSE_MS = 2000;

/** Downloads and prepares heads, each once. */
export class Heads {
  readonly #client: Client;
  readonly #manifest: URL;
  readonly #onProgress: (progress: Progress) => void;
  readonly #loading = new Map<number, Promise<void>>();
  readonly #failed = new Map<number, { error: SplitError; until: number }>();

  constructor(client: Client, manifest: URL, onProgress: (progress: Progress) => void) {
    this.#client = client;
    this.#manifest = manifest;
    this.#onProgress = onProgress;
  }

  /** Makes an operating point's head ready. Calls that come while it is being loaded wait for the same download. */
  load(point: number): Promise<void> {
    const failed = this.failure(point);
    if (failed) return Promise.reject(failed);
    const loading = this.#loading.get(point) ?? this.#start(point);
    this.#loading.set(point, loading);
    return loading;
  }

  /** Why an operating point's head could not be loaded, as long as that is not tried again. */
  failure(point: number): SplitError | undefined {
    const failed = this.#failed.get(point);
    return failed && failed.until > performance.now() ? failed.error : undefined;
  }

  /** Why an operating point's head was not loaded the last time, if it was not. */
  lastFailure(point: number): SplitError | undefined {
    return this.#failed.get(point)?.error;
  }

  async #start(point: number): Promise<void> {
    try {
      await this.#download(point);
      this.#client.prepare(point);
    } catch (thrown) {
      const error = asSplitError(thrown);
      this.#failed.set(point, { error, until: performance.now() + PAUSE_MS });
      if (error.code !== 'download-failed') this.#client.exclude(point);
      throw error;
    } finally {
      this.#loading.delete(point);
    }
  }

  async #download(point: number): Promise<void> {
    const missing = this.#client.missing(point) as File[];
    const totalBytes = missing.reduce((sum, it) => sum + it.bytes, 0);
    if (totalBytes === 0) return;
    let loadedBytes = 0;
    const onBytes = (bytes: number) => {
      loadedBytes += bytes;
      this.#onProgress({ stage: 'network', loadedBytes: Math.min(loadedBytes, totalBytes), totalBytes });
    };
    onBytes(0);
    await Promise.all(missing.map((it) => this.#file(it, onBytes)));
    this.#onProgress({ stage: 'network', loadedBytes: totalBytes, totalBytes });
  }

  async #file({ path, sha256 }: File, onBytes: (bytes: number) => void): Promise<void> {
    const url = new URL(path, this.#manifest);
    const bytes = await download(url, {}, onBytes);
    try {
      this.#client.addFile(sha256, bytes);
    } catch {
      // The browser's cache may hold what was damaged on its way: ask the server itself before giving up.
      this.#client.addFile(sha256, await download(url, { cache: 'reload' }));
    }
  }
}
