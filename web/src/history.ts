import type { Result } from 'split-inference';

import { type Share, STAGES, timeOf } from './stages.js';

/** How many frames the charts show. */
export const LENGTH = 120;

/** Over how long frames are counted. */
const RATE_MS = 2000;

/** The last frames, for charts. */
export class History {
  readonly #results: { result: Result; at: number }[] = [];

  /** Keeps a result and forgets the oldest; its pixels would be much to keep. */
  add({ pixels: _, ...result }: Result, now: number): void {
    this.#results.push({ result, at: now });
    if (this.#results.length > LENGTH) this.#results.shift();
  }

  /** Forgets them. */
  clear(): void {
    this.#results.length = 0;
  }

  /** The last frames, the oldest first. */
  get results(): Result[] {
    return this.#results.map((it) => it.result);
  }

  /** For every frame, the time up to the end of each stage: `[stage][frame]`, in milliseconds. */
  stacked(): number[][] {
    const sums = this.#results.map(() => 0);
    return STAGES.map(({ stage }) =>
      this.#results.map(({ result }, at) => {
        sums[at] = (sums[at] ?? 0) + result.timings[stage];
        return sums[at];
      }),
    );
  }

  /** Middle of a share of the times, with one operating point or with all. */
  median(share: Share, point?: number): number {
    const results = this.results.filter((it) => point === undefined || it.point === point);
    const times = results.map((it) => timeOf(it.timings, share)).sort((a, b) => a - b);
    return times[times.length >> 1] ?? 0;
  }

  /** Frames in a second, lately. */
  framesPerSecond(now: number): number {
    const recent = this.#results.filter((it) => now - it.at < RATE_MS);
    const first = recent[0]?.at ?? now;
    return recent.length > 1 ? ((recent.length - 1) * 1000) / Math.max(now - first, 1) : recent.length;
  }
}
