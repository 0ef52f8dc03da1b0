import type { Client } from '../wasm/simd/split_client.js';
import type { FrameCanvas } from './canvas.js';
import { asSplitError, type ErrorCode, SplitError } from './errors.js';
import type { Answer } from './events.js';
import { type Choice, isLocal, type Points } from './points.js';
import type { Answered, Response } from './protocol.js';
import { discard, type Picture } from './sources.js';
import type { OperatingPoint, Selection } from './types.js';

/** A frame that no one has looked at yet. */
export interface Frame {
  frame: number;
  source: Picture;
}

/** A frame that was on its way when the connection ended, with the pixels that were sent. */
interface Lost extends Frame {
  /** Why its answer will not come. */
  message: string;
}

/** What is kept of a frame until its answer comes. */
interface Asked {
  /** When its pixels were there, in milliseconds on this web worker's clock. */
  captured: number;
  pixels: ImageData;
}

/** Frames in flight before anything is known of the link: one on its way while the next is computed. */
const FIRST_DEPTH = 2;
/** The most classes in a result. */
const TOP = 10;

/** Connection, credit or leave went away while the picture was being prepared: the frame goes elsewhere. */
const WITHDRAWN: ReadonlySet<ErrorCode> = new Set(['offline', 'no-credit', 'no-usable-point']);

/** What `Frames` works with. */
export interface FrameParts {
  client: Client;
  points: Points;
  /** For the size that an operating point's network takes. */
  canvasOf: (point: OperatingPoint) => FrameCanvas;
  post: (response: Response) => void;
  /** Whether results carry what the network saw. */
  pixels: boolean;
}

/** Takes frames and answers each exactly once. At most one waits, the latest, and those that were lost on their way. */
export class Frames {
  readonly #parts: FrameParts;
  readonly #asked = new Map<number, Asked>();
  readonly #bell = new MessageChannel();
  #waiting: Frame | undefined;
  /** To be asked again. */
  readonly #lost: Lost[] = [];
  #pausing: ReturnType<typeof setTimeout> | undefined;
  #busy = false;
  /** Whether the page knows that another frame would not have to wait. */
  #offered = true;
  /** Where the frame before went, which tells whether there is room for the next. */
  #choice: Choice | undefined;

  constructor(parts: FrameParts) {
    this.#parts = parts;
    this.#bell.port1.onmessage = () => this.#run();
  }

  /** Takes a frame; one that waits is dropped for it. */
  add(frame: Frame): void {
    this.#dropWaiting(new SplitError('superseded', 'a newer frame took its place'));
    this.#offered = false;
    this.#waiting = frame;
    this.wake();
  }

  /** To be called when a frame that waits may go on. Nothing runs before the messages that came meanwhile are read: the latest frame wins. */
  wake(): void {
    if (this.#upcoming) this.#bell.port2.postMessage(null);
    else this.#offer();
  }

  /** To be called now and then: a frame that waits for the link, or would, may by now be better off on the device. */
  reconsider(): void {
    if (!this.#upcoming && !this.#offered) this.#choice = this.#next();
    this.wake();
  }

  /** A frame whose answer will not come, because the connection has ended: it goes on without one, or over the next. */
  lose(frame: number, message: string): void {
    const asked = this.#asked.get(frame);
    if (asked) {
      this.#asked.delete(frame);
      this.#lost.push({ frame, source: asked.pixels, message });
      this.wake();
    } else {
      this.drop(frame, 'connection-lost', message);
    }
  }

  /** The answer to a frame. */
  finish({ frame, point, top, messageBytes, timings }: Answer): void {
    const asked = this.#asked.get(frame);
    const best = top[0];
    if (asked && best) {
      this.#asked.delete(frame);
      const result: Answered = {
        frame,
        label: best.label,
        probability: best.probability,
        top: top.slice(0, TOP),
        point,
        messageBytes,
        timings,
        sinceCapture: performance.now() - asked.captured,
        ...(this.#parts.pixels && { pixels: asked.pixels }),
      };
      this.#parts.post({ type: 'result', result });
      this.wake();
    } else {
      this.drop(frame, 'internal', 'the answer is empty');
    }
  }

  /** A frame that gets no answer. */
  drop(frame: number, code: ErrorCode, message: string): void {
    this.#asked.delete(frame);
    this.#parts.post({ type: 'dropped', frame, code, message });
    this.wake();
  }

  /** Forgets the frames that wait. */
  clear(): void {
    if (this.#waiting) discard(this.#waiting.source);
    this.#waiting = undefined;
    this.#lost.length = 0;
    clearTimeout(this.#pausing);
  }

  /** The frame that is next. */
  get #upcoming(): Frame | undefined {
    return this.#lost[0] ?? this.#waiting;
  }

  /** Runs the frame that is next, if it may go on. */
  async #run(): Promise<void> {
    if (this.#busy || !this.#upcoming) return;
    this.#busy = true;
    try {
      const choice = this.#choose();
      const frame = this.#upcoming;
      if (!choice || !frame) return;
      if (frame === this.#waiting) this.#waiting = undefined;
      else this.#lost.shift();
      await this.#infer(frame, choice);
    } finally {
      this.#busy = false;
    }
    this.wake();
  }

  /** Asks the page for a frame once it would run at once: one that waits here grows stale, and a slow device cannot spare the work. */
  #offer(): void {
    if (this.#offered || this.#busy || !this.#hasRoom()) return;
    this.#offered = true;
    this.#parts.post({ type: 'free' });
  }

  /** A frame that cannot go where the one before went goes elsewhere once the connection is lost. */
  #hasRoom(): boolean {
    return !this.#choice || !this.#parts.client.connected || this.#mayGo(this.#choice);
  }

  #next(): Choice | undefined {
    const choice = this.#parts.points.choose();
    if (choice === undefined) throw this.#parts.points.obstacle;
    return choice === 'later' ? undefined : choice;
  }

  #choose(): Choice | undefined {
    try {
      this.#choice = this.#next();
      return this.#choice && this.#mayGo(this.#choice) ? this.#choice : undefined;
    } catch (thrown) {
      this.#dropUpcoming(asSplitError(thrown));
      return undefined;
    }
  }

  #mayGo({ point, selection }: Choice): boolean {
    if (isLocal(point)) return true;
    const predicted = point.index === selection.point ? selection.predicted : null;
    const { hasCredit, pauseMs } = this.#parts.client;
    if (!hasCredit || this.#asked.size >= depth(predicted)) return false;
    if (pauseMs > 0) this.#wakeIn(pauseMs);
    return pauseMs === 0;
  }

  #wakeIn(milliseconds: number): void {
    clearTimeout(this.#pausing);
    this.#pausing = setTimeout(() => this.wake(), Math.ceil(milliseconds));
  }

  async #infer(frame: Frame, choice: Choice): Promise<void> {
    const { client, canvasOf, points } = this.#parts;
    client.reserve(!isLocal(choice.point));
    try {
      const pixels = await read(canvasOf(choice.point), frame.source);
      this.#asked.set(frame.frame, { captured: performance.now(), pixels });
      if (choice.point.image) await this.#send(frame.frame, choice, pixels, choice.point.image);
      else this.#compute(frame.frame, choice, pixels);
      points.use(choice);
    } catch (thrown) {
      const { code, message } = asSplitError(thrown);
      if (code === 'head-failed') client.exclude(choice.point.index);
      if (WITHDRAWN.has(code)) this.lose(frame.frame, message);
      else this.drop(frame.frame, code, message);
    } finally {
      client.reserve(false);
    }
  }

  #compute(frame: number, { point }: Choice, { data }: ImageData): void {
    const rgba = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    const answer = this.#parts.client.infer(frame, point.index, rgba) as Answer | undefined;
    if (answer) this.finish(answer);
  }

  async #send(
    frame: number,
    { point }: Choice,
    pixels: ImageData,
    image: { type: string; quality: number },
  ): Promise<void> {
    const began = performance.now();
    const { canvasOf, client } = this.#parts;
    const file = await canvasOf(point).encode(pixels, image.type, image.quality);
    // The browser's own coding is as fast as it is: a device that is to be slower waits here.
    const rest = (client.slowdown - 1) * (performance.now() - began);
    if (rest > 0) await new Promise((resolve) => setTimeout(resolve, rest));
    client.inferImage(frame, point.index, file, performance.now() - began);
  }

  /** Drops what cannot go on anywhere. */
  #dropUpcoming(error: SplitError): void {
    for (const { frame, message } of this.#lost.splice(0)) this.drop(frame, 'connection-lost', message);
    this.#dropWaiting(error);
  }

  #dropWaiting({ code, message }: SplitError): void {
    const waiting = this.#waiting;
    if (!waiting) return;
    this.#waiting = undefined;
    discard(waiting.source);
    this.drop(waiting.frame, code, message);
  }
}

async function read(canvas: FrameCanvas, source: Picture): Promise<ImageData> {
  try {
    return await canvas.read(source);
  } catch (thrown) {
    throw asSplitError(thrown, 'source-not-ready');
  }
}

/** Frames that are worth having in flight: as many as keep the slowest stage busy. More would only queue before it and grow stale. */
function depth(predicted: Selection['predicted']): number {
  if (!predicted) return FIRST_DEPTH;
  const slowest = Math.max(predicted.device, predicted.transmission, predicted.edge);
  return slowest > 0 ? Math.ceil(predicted.total / slowest) : FIRST_DEPTH;
}
