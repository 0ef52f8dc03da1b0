import { checkedGoal, checkListener, checkOptions, checkSignalOptions, noSuchPoint } from './arguments.js';
import { Emitter } from './emitter.js';
import { aborted, asSplitError, type ErrorCode, SplitError } from './errors.js';
import { checkBrowser } from './features.js';
import { feed } from './feeds.js';
import type { Answered, Request, Response } from './protocol.js';
import { Repeats } from './repeats.js';
import { listSeries } from './series.js';
import { discard, grab, notTransferable, type Picture, transferables } from './sources.js';
import { answers } from './streams.js';
import { checkedThrottle } from './throttle.js';
import type {
  ClientEvents,
  ConnectionState,
  ConnectOptions,
  Diagnosis,
  FrameSource,
  Goal,
  InferOptions,
  Problem,
  Result,
  Selection,
  Series,
  SeriesSummary,
  StreamOptions,
  StreamSource,
  Throttle,
} from './types.js';
import { edgeUrl, folderUrl } from './urls.js';
import { failed, isElsewhere, startElsewhere, startSpeaking } from './workers.js';

/** Why frames go without an answer although nothing is wrong. */
const INTENDED: ReadonlySet<ErrorCode> = new Set(['aborted', 'closed', 'superseded']);

/** How long a web worker may take to say goodbye, in milliseconds. */
const GOODBYE_MS = 2000;

/** Whoever waits for one answer of the web worker. */
interface Waiting<Answer> {
  resolve(answer: Answer): void;
  reject(error: SplitError): void;
}

/** A frame without answer. */
interface Asked extends Waiting<Result> {
  /** When it was asked for, in milliseconds on the page's clock. */
  began: number;
}

/**
 * A client of one edge worker. All work is done in a web worker; the page's main thread only hands pictures over.
 *
 * ```ts
 * const client = await SplitClient.connect({ url: 'https://edge.example/' });
 * const { label, probability } = await client.infer(imageBitmap);
 * client.close();
 * ```
 */
export class SplitClient {
  readonly #url: string;
  readonly #worker: Worker;
  readonly #events = new Emitter<ClientEvents>();
  readonly #repeats = new Repeats();
  readonly #frames = new Map<number, Asked>();
  /** Aborted when the client ends, with the reason as `SplitError`. */
  readonly #lifetime = new AbortController();
  readonly #diagnosing: Waiting<Diagnosis>[] = [];
  #starting: Waiting<Series> | undefined;
  #series!: Series;
  #selection: Selection | null = null;
  #state: ConnectionState = 'connecting';
  #throttle: Throttle = {};
  /** Whether the web worker has room for a frame, and who waits for that. */
  #free = true;
  readonly #queue: (() => void)[] = [];
  #nextFrame = 0;
  /** What the latest answered frame took beside what the web worker knows, in milliseconds. */
  #delivery: number | undefined;

  private constructor(url: string, worker: Worker) {
    this.#url = url;
    this.#worker = worker;
    worker.onmessage = (event: MessageEvent<Response>) => this.#receive(event.data);
    worker.onmessageerror = () => this.#end(new SplitError('worker-failed', 'the web worker cannot be understood'));
    worker.onerror = (event) => this.#end(failed(event));
  }

  /**
   * Loads the program and the series and connects. Heads are downloaded afterwards, as they are needed.
   *
   * Without a connection the client goes on alone and connects when it can; without program or manifest there is none.
   *
   * @throws {@link SplitError} `no-worker`, `no-wasm`, `no-simd`: the browser lacks something. `download-failed`, `manifest-version`,
   * `manifest-invalid`: the edge worker's files cannot be had or used. `no-such-series`: it does not serve that one. `goal-invalid`, `no-such-point`: the goal
   * makes no sense. `url-invalid`, `argument-invalid`: another option makes no sense. `aborted`: `signal` fired.
   */
  static async connect(options: ConnectOptions = {}): Promise<SplitClient> {
    checkOptions(options);
    const { series, token, pixels = false, onProgress, signal } = options;
    const goal = options.goal === undefined ? undefined : checkedGoal(options.goal);
    checkBrowser();
    throwIfAborted(signal);
    const base = options.base === undefined ? undefined : folderUrl(options.base, pageUrl());
    const url = edgeUrl(options.url, pageUrl());
    const client = new SplitClient(url, await startSpeaking(() => startWorker(base), signal));
    if (onProgress) client.on('progress', onProgress);
    const giveUp = () => client.#close(aborted(signal));
    signal?.addEventListener('abort', giveUp, { signal: client.#lifetime.signal });
    client.#watchPage();
    const named = series !== undefined && { series };
    const optional = { ...named, ...(goal && { goal }), ...(token !== undefined && { token }) };
    client.#series = await new Promise<Series>((resolve, reject) => {
      client.#starting = { resolve, reject };
      client.#post({ type: 'start', url, pixels, ...optional });
    });
    return client;
  }

  /** The series of networks in use. */
  get series(): Series {
    return this.#series;
  }

  /** The operating point in use, and why; null before the first one was chosen. */
  get selection(): Selection | null {
    return this.#selection;
  }

  /** The connection to the edge worker. */
  get state(): ConnectionState {
    return this.#state;
  }

  /** What is made slower than it is; empty if nothing is. */
  get throttle(): Throttle {
    return this.#throttle;
  }

  /**
   * Runs one picture through the network.
   *
   * The picture is cut to the network's proportions around its middle and scaled. Of several frames that wait, only the latest is
   * looked at; the others are rejected with `superseded`.
   *
   * @param source The picture; a `VideoFrame` or `ImageBitmap` is taken over and closed, whatever happens.
   * @throws {@link SplitError} for a frame that gets no answer; event `problem` tells why, too, where something is wrong.
   */
  async infer(source: FrameSource, options: InferOptions = {}): Promise<Result> {
    const picture = grab(source);
    try {
      checkSignalOptions(options);
    } catch (thrown) {
      picture.then(discard, () => undefined);
      throw thrown;
    }
    return this.#infer(picture, options.signal);
  }

  async #infer(picture: Promise<Picture>, signal: AbortSignal | undefined): Promise<Result> {
    const began = performance.now();
    try {
      return await this.#ask(await this.#take(picture, signal), began, signal);
    } catch (thrown) {
      const error = asSplitError(thrown);
      if (!INTENDED.has(error.code)) this.#tell(error);
      throw error;
    } finally {
      // Does nothing to what the web worker has by now.
      picture.then(discard, () => undefined);
    }
  }

  /**
   * Runs a camera, a video or a canvas through the network, frame by frame, until it ends, the loop is left, `signal` fires or the
   * client is closed.
   *
   * A frame is taken whenever one would not have to wait, and results come in the order of the frames. Frames that get no answer are left out,
   * event `problem` tells why; so is a result that comes after a later frame's. Breaking out of the loop does not stop the camera: it is
   * the caller's.
   *
   * ```ts
   * for await (const result of client.stream(track)) console.log(result.label);
   * ```
   *
   * @throws {@link SplitError} `worker-failed` or `internal` if no later frame can be answered either, `source-not-ready` if the source fails,
   * `source-invalid` if it never gives a picture.
   */
  async *stream(source: StreamSource, options: StreamOptions = {}): AsyncGenerator<Result, void, undefined> {
    checkSignalOptions(options);
    const { signal } = options;
    const endings = [this.#lifetime.signal, signal].filter((it) => it !== undefined);
    if (endings.some((it) => it.aborted)) return;
    const pictures = feed(source);
    const stop = () => pictures.close();
    for (const ending of endings) ending.addEventListener('abort', stop);
    try {
      yield* answers(pictures, { infer: (it) => this.#infer(it, signal), free: () => this.#whenFree() });
    } finally {
      for (const ending of endings) ending.removeEventListener('abort', stop);
    }
  }

  /**
   * Listens to an event; returns a function that ends it.
   *
   * @throws {@link SplitError} `argument-invalid` if there is no such event.
   */
  on<Name extends keyof ClientEvents>(event: Name, listener: (event: ClientEvents[Name]) => void): () => void {
    checkListener(event, listener);
    return this.#events.on(event, listener);
  }

  /**
   * Changes how the operating point is chosen, from the next frame on.
   *
   * @throws {@link SplitError} `goal-invalid` if it is no goal, `no-such-point` if the series does not have the fixed point.
   */
  setGoal(goal: Goal): void {
    const checked = checkedGoal(goal);
    if (checked.kind === 'fixed' && !this.#series.points[checked.point]) throw noSuchPoint(checked.point);
    this.#post({ type: 'goal', goal: checked });
  }

  /**
   * Makes link and device slower than they are, from the next message and frame on: to see what the client does then.
   *
   * Messages and computing really take so long, so that they are measured, and the operating point is chosen by what is
   * measured. Nothing gets faster than it is. Downloads are not throttled. `setThrottle({})` ends it.
   *
   * @throws {@link SplitError} `throttle-invalid` if a number is out of its range.
   */
  setThrottle(throttle: Throttle): void {
    this.#throttle = checkedThrottle(throttle);
    this.#post({ type: 'throttle', throttle: this.#throttle });
  }

  /**
   * Asks the edge worker which series it serves; to change to another one, connect a new client with it.
   *
   * @throws {@link SplitError} `download-failed` if the edge worker does not answer.
   */
  seriesList(): Promise<SeriesSummary[]> {
    return listSeries(this.#url);
  }

  /** What runs, and what was measured: for experts. */
  diagnose(): Promise<Diagnosis> {
    const { signal } = this.#lifetime;
    if (signal.aborted) return Promise.reject(signal.reason);
    return new Promise((resolve, reject) => {
      this.#diagnosing.push({ resolve, reject });
      this.#post({ type: 'diagnose' });
    });
  }

  /** Connects now where the next attempt is due only later. */
  reconnect(): void {
    this.#post({ type: 'reconnect' });
  }

  /** Ends everything. Frames without answer are rejected with `closed`. */
  close(): void {
    this.#close(new SplitError('closed', 'the client was closed'));
  }

  /** The web worker has no room for another one meanwhile; a picture that cannot be had leaves it free. */
  async #take(picture: Promise<Picture>, signal: AbortSignal | undefined): Promise<Picture> {
    this.#free = false;
    try {
      const taken = await picture;
      this.#lifetime.signal.throwIfAborted();
      throwIfAborted(signal);
      return taken;
    } catch (thrown) {
      this.#setFree();
      throw thrown;
    }
  }

  #ask(source: Picture, began: number, signal: AbortSignal | undefined): Promise<Result> {
    const frame = this.#nextFrame++;
    // It is still answered, to whoever listens.
    const giveUp = () => this.#frames.get(frame)?.reject(aborted(signal));
    const result = new Promise<Result>((resolve, reject) => {
      this.#frames.set(frame, { began, resolve, reject });
      signal?.addEventListener('abort', giveUp);
      try {
        const delivery = this.#delivery;
        this.#post(
          { type: 'frame', frame, source, ...(delivery !== undefined && { delivery }) },
          transferables(source),
        );
      } catch (cause) {
        this.#setFree();
        this.#settle(frame)?.reject(notTransferable(source, cause));
      }
    });
    return result.finally(() => signal?.removeEventListener('abort', giveUp));
  }

  /** Connects at once when the network or the user comes back: while nobody looked, or the device slept, there was no hurry. */
  #watchPage(): void {
    const { signal } = this.#lifetime;
    const back = () => {
      if (!globalThis.document?.hidden) this.reconnect();
    };
    globalThis.document?.addEventListener('visibilitychange', back, { signal });
    globalThis.addEventListener('pageshow', back, { signal });
    globalThis.addEventListener('online', () => this.reconnect(), { signal });
  }

  #post(request: Request, transfer: Transferable[] = []): void {
    this.#worker.postMessage(request, transfer);
  }

  #receive(response: Response): void {
    switch (response.type) {
      case 'ready':
        this.#starting?.resolve(response.series);
        this.#starting = undefined;
        break;
      case 'failed':
        this.#end(asSplitError(response));
        break;
      case 'progress':
        this.#events.emit('progress', response.progress);
        break;
      case 'state':
        this.#state = response.change.state;
        this.#events.emit('state', response.change);
        break;
      case 'free':
        this.#setFree();
        break;
      case 'selection':
        this.#selection = response.selection;
        this.#events.emit('selection', response.selection);
        break;
      case 'problem':
        this.#tell(response.problem);
        break;
      case 'diagnosis':
        this.#diagnosing.shift()?.resolve(response.diagnosis);
        break;
      case 'result':
        this.#answer(response.result);
        break;
      case 'dropped':
        this.#settle(response.frame)?.reject(asSplitError(response));
        break;
    }
  }

  #answer({ sinceCapture, sinceArrival, ...answered }: Answered): void {
    const asked = this.#settle(answered.frame);
    if (!asked) return;
    const total = performance.now() - asked.began;
    const capture = Math.max(0, total - sinceCapture);
    this.#delivery = Math.max(0, total - sinceArrival);
    const result: Result = { ...answered, timings: { capture, ...answered.timings, total } };
    asked.resolve(result);
    this.#events.emit('stats', result);
  }

  /** Settles once a frame would not have to wait, or none is taken any more. */
  #whenFree(): Promise<void> {
    return this.#free ? Promise.resolve() : new Promise((resolve) => this.#queue.push(resolve));
  }

  #setFree(): void {
    this.#free = true;
    for (const wake of this.#queue.splice(0)) wake();
  }

  /** Whoever waits for this frame; they are taken off the list. */
  #settle(frame: number): Asked | undefined {
    const waiting = this.#frames.get(frame);
    this.#frames.delete(frame);
    return waiting;
  }

  #tell({ code, message }: Problem): void {
    if (this.#repeats.isNew({ code, message }, performance.now())) this.#events.emit('problem', { code, message });
  }

  /** Ends at the caller's wish: a web worker that has started says goodbye to the edge worker before. */
  #close(reason: SplitError): void {
    if (this.#lifetime.signal.aborted) return;
    if (this.#starting) {
      this.#end(reason);
    } else {
      this.#finish(reason);
      const end = () => {
        clearTimeout(late);
        this.#worker.onmessage = null;
        this.#worker.terminate();
      };
      // One that computes, or waits for the browser, does not hear of it for long.
      const late = setTimeout(end, GOODBYE_MS);
      this.#worker.onmessage = ({ data }: MessageEvent<Response>) => data.type === 'closed' && end();
      this.#post({ type: 'close' });
    }
  }

  /** Ends because the web worker is of no use. */
  #end(error: SplitError): void {
    if (this.#lifetime.signal.aborted) return;
    this.#worker.terminate();
    this.#finish(error);
    if (!this.#starting) this.#tell(error);
    this.#starting?.reject(error);
  }

  #finish(reason: SplitError): void {
    this.#worker.onmessage = null;
    this.#worker.onerror = null;
    this.#lifetime.abort(reason);
    this.#setFree();
    for (const frame of [...this.#frames.keys()]) this.#settle(frame)?.reject(reason);
    for (const it of this.#diagnosing.splice(0)) it.reject(reason);
    this.#state = 'closed';
    this.#events.emit('state', { state: 'closed' });
  }
}

/** In the folder `base`; none where bundlers and browsers find the package's files by themselves. */
function startWorker(base: URL | undefined): Worker {
  const options = { type: 'module', name: 'split-inference' } as const;
  try {
    if (base) return startElsewhere(new URL('dist/worker.js', base), options);
    // Not written as a URL that bundlers know: where there is a bundler, this file is elsewhere.
    const file = 'worker.js';
    if (isElsewhere(import.meta.url)) return startElsewhere(new URL(file, import.meta.url), options);
    return new Worker(new URL('./worker.js', import.meta.url), { type: 'module', name: 'split-inference' });
  } catch (cause) {
    const advice = 'allow this package as worker-src; one of another origin needs blob: there, too';
    throw new SplitError('no-worker', `the web worker cannot be started: ${advice}`, { cause });
  }
}

/** What addresses are relative to. A web worker has no document. */
function pageUrl(): string {
  return globalThis.document?.baseURI ?? location.href;
}

function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw aborted(signal);
}
