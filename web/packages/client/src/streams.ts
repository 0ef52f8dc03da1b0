import { asSplitError, type ErrorCode, type SplitError } from './errors.js';
import type { Feed } from './feeds.js';
import { discard, type Picture } from './sources.js';
import type { Result } from './types.js';

/** What a stream needs of the client. */
export interface Inference {
  infer(picture: Promise<Picture>): Promise<Result>;
  /** Settles once a frame would not have to wait. */
  free(): Promise<void>;
}

/**
 * The answers to the pictures of a feed, in the order of the pictures: one that arrives after the answer to a later picture is left out.
 *
 * A picture is taken only when its frame would not have to wait and whoever reads has read what there is, so that nothing becomes stale in
 * a queue. A frame without answer is left out; only what no later frame can mend is thrown.
 */
export async function* answers(feed: Feed, inference: Inference): AsyncGenerator<Result, void, undefined> {
  const stream = new Stream(feed, inference);
  try {
    for (let result = await stream.next(); result; result = await stream.next()) yield result;
  } finally {
    stream.end();
  }
}

/** What no later frame can mend. */
const FATAL: ReadonlySet<ErrorCode> = new Set(['worker-failed', 'internal', 'source-invalid', 'canvas-blocked']);

class Stream {
  readonly #feed: Feed;
  readonly #inference: Inference;
  readonly #results: Result[] = [];
  /** The latest frame whose answer was taken. */
  #latest = -1;
  #unanswered = 0;
  #ended = false;
  #error: SplitError | undefined;
  readonly #waiters: (() => void)[] = [];

  constructor(feed: Feed, inference: Inference) {
    this.#feed = feed;
    this.#inference = inference;
    this.#read().catch((thrown) => this.#fail(asSplitError(thrown, 'source-not-ready')));
  }

  async next(): Promise<Result | undefined> {
    while (this.#results.length === 0 && !this.#isOver()) await this.#change();
    if (this.#error) throw this.#error;
    const result = this.#results.shift();
    this.#changed();
    return result;
  }

  end(): void {
    this.#ended = true;
    this.#feed.close();
    this.#changed();
  }

  async #read(): Promise<void> {
    while (!this.#ended) {
      while (this.#results.length > 0) await this.#change();
      await this.#inference.free();
      if (this.#ended) break;
      const taken = await this.#feed.next();
      if (!taken) break;
      if (this.#ended) taken.picture.then(discard, () => undefined);
      else this.#ask(taken.picture);
    }
    this.end();
  }

  #ask(picture: Promise<Picture>): void {
    this.#unanswered += 1;
    this.#inference
      .infer(picture)
      .then(
        (result) => this.#take(result),
        (thrown) => this.#judge(asSplitError(thrown)),
      )
      .finally(() => {
        this.#unanswered -= 1;
        this.#changed();
      });
  }

  #take(result: Result): void {
    // Frames go different ways: the device can overtake what is on the link.
    if (result.frame < this.#latest) return;
    this.#latest = result.frame;
    this.#results.push(result);
  }

  #judge(error: SplitError): void {
    if (error.code === 'aborted' || error.code === 'closed') this.end();
    if (FATAL.has(error.code)) this.#fail(error);
  }

  #fail(error: SplitError): void {
    this.#error ??= error;
    this.end();
  }

  /** The last frames of a video are still answered after its end. */
  #isOver(): boolean {
    return this.#ended && (this.#unanswered === 0 || this.#error !== undefined);
  }

  #change(): Promise<void> {
    return new Promise((resolve) => this.#waiters.push(resolve));
  }

  #changed(): void {
    for (const wake of this.#waiters.splice(0)) wake();
  }
}
