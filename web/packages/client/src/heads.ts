import type { Client } from '../wasm/simd/split_client.js';
import type { Announcer } from './announcer.js';
import { download } from './download.js';
import { asSplitError } from './errors.js';
import type { Clock } from './slower.js';
import type { File } from './steps.js';
import type { Progress } from './types.js';

/** What `Heads` works with. */
export interface HeadParts {
  client: Client;
  clock: Clock;
  /** Where the manifest is. */
  manifest: URL;
  announcer: Announcer;
  onProgress: (progress: Progress) => void;
}

/** Downloads and prepares heads. */
export class Heads {
  readonly #parts: HeadParts;
  #isWarm = false;

  constructor(parts: HeadParts) {
    this.#parts = parts;
  }

  /** Downloads the files of an operating point's head. */
  load(point: number, files: File[]): Promise<void> {
    return this.#attempt(point, () => this.#download(files));
  }

  /** Makes the head ready. */
  prepare(point: number): Promise<void> {
    const { client, clock } = this.#parts;
    return this.#attempt(point, async () => {
      clock.run(() => client.prepare(point));
      await clock.caughtUp();
    });
  }

  /** Tells the client and the page if the work fails. */
  async #attempt(point: number, work: () => Promise<void>): Promise<void> {
    const { client, announcer } = this.#parts;
    try {
      await work();
    } catch (thrown) {
      const error = asSplitError(thrown);
      client.fail(point, error.code, error.message);
      announcer.problem(error);
    }
  }

  async #download(files: File[]): Promise<void> {
    const totalBytes = files.reduce((sum, it) => sum + it.bytes, 0);
    if (totalBytes === 0) return;
    const { onProgress } = this.#parts;
    let loadedBytes = 0;
    const onBytes = (bytes: number) => {
      loadedBytes += bytes;
      onProgress({ stage: 'network', loadedBytes: Math.min(loadedBytes, totalBytes), totalBytes });
    };
    onBytes(0);
    const downloads = files.map((it) => this.#file(it, onBytes));
    await Promise.all([...downloads, this.#warmUp()]);
    onProgress({ stage: 'network', loadedBytes: totalBytes, totalBytes });
  }

  /** Uses the time of the first download. */
  async #warmUp(): Promise<void> {
    if (this.#isWarm) return;
    this.#isWarm = true;
    const { client, clock } = this.#parts;
    clock.run(() => client.warmUp());
  }

  async #file({ path, sha256, bytes: limit }: File, onBytes: (bytes: number) => void): Promise<void> {
    const { client, manifest } = this.#parts;
    const url = new URL(path, manifest);
    const bytes = await download({ url, limit }, onBytes);
    try {
      client.addFile(sha256, bytes);
    } catch {
      // The browser's cache may hold what was damaged on its way: ask the server itself before giving up.
      client.addFile(sha256, await download({ url, limit, cache: 'reload' }));
    }
  }
}
