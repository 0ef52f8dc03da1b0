import type { Client } from '../wasm/simd/split_client.js';
import type { Announcer } from './announcer.js';
import { download } from './download.js';
import { asSplitError } from './errors.js';
import type { Clock } from './slower.js';
import type { File } from './steps.js';
import type { Progress } from './types.js';

/** Downloads and prepares heads. */
export class Heads {
  readonly #client: Client;
  readonly #clock: Clock;
  readonly #manifest: URL;
  readonly #announcer: Announcer;
  readonly #onProgress: (progress: Progress) => void;

  constructor(
    client: Client,
    clock: Clock,
    manifest: URL,
    announcer: Announcer,
    onProgress: (progress: Progress) => void,
  ) {
    this.#client = client;
    this.#clock = clock;
    this.#manifest = manifest;
    this.#announcer = announcer;
    this.#onProgress = onProgress;
  }

  /** Makes an operating point's head ready, or tells the client and the page why not. */
  async load(point: number, files: File[]): Promise<void> {
    try {
      await this.#download(files);
      this.#clock.run(() => this.#client.prepare(point));
      await this.#clock.caughtUp();
    } catch (thrown) {
      const error = asSplitError(thrown);
      this.#client.fail(point, error.code, error.message);
      this.#announcer.problem(error);
    }
  }

  async #download(files: File[]): Promise<void> {
    const totalBytes = files.reduce((sum, it) => sum + it.bytes, 0);
    if (totalBytes === 0) return;
    let loadedBytes = 0;
    const onBytes = (bytes: number) => {
      loadedBytes += bytes;
      this.#onProgress({ stage: 'network', loadedBytes: Math.min(loadedBytes, totalBytes), totalBytes });
    };
    onBytes(0);
    await Promise.all(files.map((it) => this.#file(it, onBytes)));
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
