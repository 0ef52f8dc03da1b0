import type { Response } from './protocol.js';
import type { Problem, Selection } from './types.js';

/** Predictions move a little with every frame: how often that is told. */
const PERIOD_MS = 500;

/** Tells the page which operating point is in use, and what is wrong. */
export class Announcer {
  readonly #post: (response: Response) => void;
  #selection = '';
  #told = 0;
  /** The latest problem from before anyone could listen; undefined as a whole once someone can. */
  #early: { problem?: Problem } | undefined = {};

  constructor(post: (response: Response) => void) {
    this.#post = post;
  }

  /** The operating point in use: told at once if it or its reason changed, now and then if only figures did. */
  selection(selection: Selection): void {
    const { point, automatic, meets, kept, predicted, runnerUp, link } = selection;
    const reason = [point, automatic, meets, kept, predicted === null, runnerUp?.point, link === null].join();
    const now = performance.now();
    if (reason === this.#selection && now - this.#told < PERIOD_MS) return;
    this.#selection = reason;
    this.#told = now;
    this.#post({ type: 'selection', selection });
  }

  /** Something is wrong; the page knows whether it has told the same just now. */
  problem({ code, message }: Problem): void {
    if (this.#early) this.#early.problem = { code, message };
    else this.#post({ type: 'problem', problem: { code, message } });
  }

  /** Forgets what was wrong before anyone could listen: it was mended. */
  forget(): void {
    if (this.#early) this.#early = {};
  }

  /** To be called when the page has the client: it can listen from now on. */
  begin(): void {
    const problem = this.#early?.problem;
    this.#early = undefined;
    if (problem) this.#post({ type: 'problem', problem });
  }
}
