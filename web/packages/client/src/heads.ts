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

/** Downloads and prepares heads, each once. */
export class Heads {
  readonly #client: Client;
  readonly #manifest: URL;
  readonly #onProgress: (progress: Progress) => void;
  readonly #loading = new Map<number, Promise<void>>();
  readonly #failures = new Map<number, SplitError>();

  constructor(client: Client, manifest: URL, onProgress: (progress: Progress) => void) {
    this.#client = client;
    this.#manifest = manifest;
    this.#onProgress = onProgress;
  }

  /** Makes an operating point's head ready. Calls that come while it is being loaded wait for the same download. */
  load(point: number): Promise<void> {
    const loading = this.#loading.get(point) ?? this.#start(point);
    this.#loading.set(point, loading);
    return loading;
  }

  /** Why an operating point's head was not loaded the last time, if it was not. */
  failure(point: number): SplitError | undefined {
    return this.#failures.get(point);
  }

  async #start(point: number): Promise<void> {
    try {
      await this.#download(point);
      this.#client.prepare(point);
      this.#failures.delete(point);
    } catch (thrown) {
      const error = asSplitError(thrown);
      this.#failures.set(point, error);
      // What is whole but no network stays so; everything else may be mended where it comes from, or on the way.
      if (error.code === 'segment-invalid') this.#client.exclude(point);
      else this.#client.fail(point);
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

  async #file({ path, sha256, bytes: limit }: File, onBytes: (bytes: number) => void): Promise<void> {
    const url = new URL(path, this.#manifest);
    const bytes = await download({ url, limit }, onBytes);
    try {
      this.#client.addFile(sha256, bytes);
    } catch {
      // The browser's cache may hold what was damaged on its way: ask the server itself before giving up.
      this.#client.addFile(sha256, await download({ url, limit, cache: 'reload' }));
    }
  }
}
