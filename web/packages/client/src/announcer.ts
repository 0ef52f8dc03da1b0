import type { Response } from './protocol.js';
import type { Problem } from './types.js';

/** Tells the page what is wrong. */
export class Announcer {
  readonly #post: (response: Response) => void;
  /** The latest problem from before anyone could listen; undefined as a whole once someone can. */
  #early: { problem?: Problem } | undefined = {};

  constructor(post: (response: Response) => void) {
    this.#post = post;
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
