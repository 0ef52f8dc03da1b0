import { type Result, type SplitClient, SplitError } from 'split-inference';

import type { Source } from './sources/source.js';

/** A still picture is looked at again so often, in case anything but the operating point has changed. */
const STILL_MS = 1000;

/** What the player tells. */
export interface PlayerListener {
  result(result: Result): void;
  /** The pictures of the source ended with an error. */
  failed(thrown: unknown): void;
}

/** Runs the source's pictures through the network as long as someone looks at the page. */
export class Player {
  readonly #listener: PlayerListener;
  #client: SplitClient | undefined;
  #source: Source | undefined;
  #isPaused = false;
  #run = new AbortController();

  constructor(listener: PlayerListener) {
    this.#listener = listener;
    document.addEventListener('visibilitychange', () => this.#look());
  }

  /** What is played. */
  get source(): Source | undefined {
    return this.#source;
  }

  /** Whether results are to be expected. */
  get isPlaying(): boolean {
    return this.#client !== undefined && this.#source !== undefined && !this.#rests;
  }

  /** Takes a client, in place of the one before. */
  use(client: SplitClient | undefined): void {
    this.#client = client;
    this.#restart();
  }

  /** Plays a source, in place of the one before. */
  play(source: Source | undefined): void {
    // Before it is closed: no picture can be taken of it any more.
    this.#run.abort();
    this.#source?.close();
    this.#source = source;
    if (this.#rests) source?.pause();
    this.#restart();
  }

  /** Stops, or goes on after that. */
  pause(isPaused: boolean): void {
    if (this.#isPaused === isPaused) return;
    this.#isPaused = isPaused;
    this.#look();
  }

  /** Nobody looks, or the user wants to look at one picture. */
  get #rests(): boolean {
    return document.hidden || this.#isPaused;
  }

  #look(): void {
    if (this.#rests) this.#source?.pause();
    else this.#source?.resume();
    this.#restart();
  }

  #restart(): void {
    this.#run.abort();
    this.#run = new AbortController();
    const { signal } = this.#run;
    const [client, source] = [this.#client, this.#source];
    if (!client || !source || this.#rests) return;
    this.#answers(client, source, signal).catch((thrown) => {
      if (!signal.aborted) this.#listener.failed(thrown);
    });
  }

  async #answers(client: SplitClient, source: Source, signal: AbortSignal): Promise<void> {
    const results = source.still
      ? stills(client, source.element, signal)
      : client.stream(source.frames ?? source.element, { signal });
    for await (const result of results) {
      if (signal.aborted) return;
      this.#listener.result(result);
    }
  }
}

/** The results of a picture that does not change: a new one whenever another operating point is selected, and once in a while. */
async function* stills(client: SplitClient, element: Source['element'], signal: AbortSignal): AsyncGenerator<Result> {
  while (!signal.aborted) {
    const result = await client.infer(element, { signal }).catch(passOver);
    if (result) yield result;
    await anotherPoint(client, result?.point, signal);
  }
}

/** A frame without answer is left out, unless none will ever have one. */
function passOver(thrown: unknown): undefined {
  const fatal =
    !(thrown instanceof SplitError) || ['closed', 'worker-failed', 'internal', 'canvas-blocked'].includes(thrown.code);
  if (fatal) throw thrown;
}

/** Waits until another operating point than this is selected, at most for a while. */
function anotherPoint(client: SplitClient, point: number | undefined, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      unsubscribe();
      signal.removeEventListener('abort', done);
      resolve();
    };
    const timer = setTimeout(done, STILL_MS);
    const unsubscribe = client.on('selection', (it) => {
      if (it.point !== point) done();
    });
    signal.addEventListener('abort', done);
  });
}
