import type { Problem } from './types.js';

/** A problem that lasts comes with every frame: it is told so often. */
const PERIOD_MS = 5000;

/** Knows which problems were told a moment ago. */
export class Repeats {
  readonly #told = new Map<string, number>();

  /** Whether a problem is to be told at this time, in milliseconds; it then counts as told. */
  isNew({ code, message }: Problem, now: number): boolean {
    for (const [problem, at] of this.#told) {
      if (now - at >= PERIOD_MS) this.#told.delete(problem);
    }
    const problem = `${code} ${message}`;
    if (this.#told.has(problem)) return false;
    this.#told.set(problem, now);
    return true;
  }
}
