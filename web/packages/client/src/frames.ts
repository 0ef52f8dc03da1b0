import type { Client } from '../wasm/simd/split_client.js';
import type { Announcer } from './announcer.js';
import type { FrameCanvas } from './canvas.js';
import { asSplitError, SplitError } from './errors.js';
import type { Heads } from './heads.js';
import type { Response } from './protocol.js';
import type { Clock } from './slower.js';
import { discard, type Picture } from './sources.js';
import type { Outcome, Step } from './steps.js';
import type { OperatingPoint } from './types.js';

/** A frame that no one has looked at yet. */
export interface Frame {
  frame: number;
  source: Picture;
  /** What the latest frame took that only the page knows, in milliseconds; see {@link Answered}. */
  delivery?: number;
}

/** What `Frames` works with. */
export interface FrameParts {
  client: Client;
  clock: Clock;
  canvas: FrameCanvas;
  points: readonly OperatingPoint[];
  heads: Heads;
  announcer: Announcer;
  post: (response: Response) => void;
}

/** Takes frames and answers each exactly once. At most one waits, the latest. What is to be done with it, the client says step by step. */
export class Frames {
  readonly #parts: FrameParts;
  readonly #bell = new MessageChannel();
  #waiting: (Frame & { arrived: number }) | undefined;
  #again: ReturnType<typeof setTimeout> | undefined;
  /** None before the client may begin. */
  #busy = true;
  /** Whether the page knows that another frame would not have to wait. */
  #offered = true;

  constructor(parts: FrameParts) {
    this.#parts = parts;
    this.#bell.port1.onmessage = () => this.#run();
  }

  /** Lets the client begin. */
  begin(): void {
    this.#busy = false;
    this.wake();
  }

  /** Takes a frame; one that waits is dropped for it. */
  add(frame: Frame): void {
    const waiting = this.#waiting;
    if (waiting) this.#drop(waiting.frame, new SplitError('superseded', 'a newer frame took its place'));
    this.#offered = false;
    this.#waiting = { ...frame, arrived: this.#parts.clock.now() };
    this.wake();
  }

  /** To be called when something has happened. Nothing is done before the messages that came meanwhile are read: the latest frame wins. */
  wake(): void {
    this.#bell.port2.postMessage(null);
  }

  /** To be told what became of a frame. */
  end(outcome: Outcome): void {
    const { points, post } = this.#parts;
    if (outcome.type === 'dropped') {
      this.#drop(outcome.frame, outcome);
    } else {
      const { result, rgba } = outcome;
      const { width, height } = points[result.point] ?? {};
      if (rgba && width) result.pixels = new ImageData(rgba, width, height);
      post({ type: 'result', result });
    }
  }

  /** Forgets the frame that waits, and takes no further step. */
  clear(): void {
    this.#busy = true;
    clearTimeout(this.#again);
    if (this.#waiting) discard(this.#waiting.source);
    this.#waiting = undefined;
  }

  async #run(): Promise<void> {
    if (this.#busy) return;
    this.#busy = true;
    clearTimeout(this.#again);
    try {
      let step: Step | undefined = await this.#next();
      while (step) step = await this.#take(step);
    } catch (thrown) {
      this.#parts.announcer.problem(asSplitError(thrown));
    } finally {
      this.#busy = false;
    }
  }

  /** Takes a step; returns the next one, none if there is nothing to be done for now. */
  async #take(step: Step): Promise<Step | undefined> {
    const { selection } = step;
    if (selection) this.#parts.post({ type: 'selection', selection });
    switch (step.type) {
      case 'load':
        this.#parts.heads.load(step.point, step.files).then(() => this.wake());
        return this.#next();
      case 'prepare':
        await this.#parts.heads.prepare(step.point);
        return this.#next();
      case 'capture':
        return this.#capture();
      case 'encode':
        return this.#encode(step);
      case 'answer':
      case 'dropped':
        this.end(step);
        return this.#after();
      case 'sent':
        return this.#after();
      case 'free':
        if (!this.#offered) this.#parts.post({ type: 'free' });
        this.#offered = true;
        return undefined;
      case 'wait':
        this.#again = setTimeout(() => this.wake(), Math.ceil(step.milliseconds));
        return undefined;
    }
  }

  #next(): Promise<Step> {
    return this.#compute(() => this.#parts.client.next(this.#waiting?.frame));
  }

  /** After a frame: a newer one than that which waits may have come. */
  async #after(): Promise<Step | undefined> {
    if (!this.#waiting) return this.#next();
    this.wake();
    return undefined;
  }

  async #capture(): Promise<Step | undefined> {
    const waiting = this.#waiting;
    if (!waiting) return this.#next();
    this.#waiting = undefined;
    const { frame, source, arrived, delivery } = waiting;
    const { canvas, client } = this.#parts;
    return this.#attempt(frame, 'source-not-ready', async () => {
      await canvas.read(source);
      return this.#compute(() => client.infer(frame, arrived, delivery));
    });
  }

  async #encode({ frame, point, rgba }: Extract<Step, { type: 'encode' }>): Promise<Step | undefined> {
    const { canvas, client, clock, points } = this.#parts;
    const { width = 1, height, image } = points[point] ?? {};
    return this.#attempt(frame, 'internal', async () => {
      const pixels = new ImageData(rgba, width, height);
      const file = await clock.over(() => canvas.encode(pixels, image?.type, image?.quality));
      return this.#compute(() => client.inferImage(file));
    });
  }

  /** Drops the frame if the work fails. */
  async #attempt(frame: number, otherwise: 'source-not-ready' | 'internal', work: () => Promise<Step>) {
    try {
      return await work();
    } catch (thrown) {
      this.#parts.client.putDown();
      this.#drop(frame, asSplitError(thrown, otherwise));
      return this.#after();
    }
  }

  /** What is computed counts only once the time is over that it takes on this device. */
  async #compute(work: () => unknown): Promise<Step> {
    const { clock } = this.#parts;
    const step = clock.run(work) as Step;
    await clock.caughtUp();
    return step;
  }

  #drop(frame: number, { code, message }: Pick<SplitError, 'code' | 'message'>): void {
    if (this.#waiting?.frame === frame) {
      discard(this.#waiting.source);
      this.#waiting = undefined;
    }
    this.#parts.post({ type: 'dropped', frame, code, message });
  }
}
