import type { MessageSocket } from '../wasm/simd/split_client.js';
import { SplitError } from './errors.js';
import { pause } from './pause.js';
import { isElsewhere, startElsewhere } from './workers.js';

/** What happens to a socket, as its web worker tells. `at` is when, in milliseconds on the clock of that web worker. */
export type SocketEvent =
  | { type: 'open'; at: number }
  | { type: 'message'; data: unknown; at: number }
  | { type: 'close'; code: number; reason: string };

/** A message to be sent, or null: the socket is to be closed. */
export type SocketRequest = Uint8Array | null;

/** Code of a connection that broke without a goodbye: RFC 6455, section 7.4.1. */
const ABNORMAL = 1006;
/** How long a goodbye may take. */
const GOODBYE_MS = 500;
/**
 * How long a web worker takes to end, at least. In Chromium one that is ended at the same time as another that it has started sometimes
 * stays for ever, and the other with it.
 */
const END_MS = 200;
/** How long a connection may wait for its first message: edge workers give up after 10 s. */
const SILENT_MS = 5000;

/**
 * Opens WebSockets in a web worker of their own, which computes nothing.
 *
 * The one that runs the heads sees an answer only between two heads, when nobody knows any more how long it has been there. On a slow
 * device that is a head's time, which would pass for the link's.
 */
export class Sockets {
  readonly #onFailure: (error: SplitError) => void;
  /** None after a failure, until a connection needs it. */
  #worker: Worker | undefined;
  #latest: RemoteSocket | undefined;
  #ahead: { socket: RemoteSocket; began: number } | undefined;

  /** `onFailure` is told why the web worker failed; its connections have ended then, and the next one starts another. */
  constructor(onFailure: (error: SplitError) => void) {
    this.#onFailure = onFailure;
  }

  /** Starts connecting for the first {@link open}, while that which will talk is still being loaded. */
  openAhead(url: string): void {
    this.#ahead = { socket: this.#connect(url), began: performance.now() };
  }

  /** Starts connecting. */
  open(url: string): MessageSocket {
    this.#latest = this.#takeAhead() ?? this.#connect(url);
    this.#latest.listen();
    return this.#latest;
  }

  /** Ends the web worker, once what was sent last before a socket was closed is on its way. */
  async close(): Promise<void> {
    await Promise.race([this.#latest?.closed, pause(GOODBYE_MS)]);
    this.#worker?.terminate();
    this.#worker = undefined;
    await pause(END_MS);
  }

  #takeAhead(): RemoteSocket | undefined {
    const ahead = this.#ahead;
    this.#ahead = undefined;
    if (!ahead || performance.now() - ahead.began < SILENT_MS) return ahead?.socket;
    ahead.socket.close();
    return undefined;
  }

  #connect(url: string): RemoteSocket {
    const { port1, port2 } = new MessageChannel();
    this.#worker ??= this.#start();
    this.#worker.postMessage(url, [port2]);
    return new RemoteSocket(port1);
  }

  #start(): Worker {
    const options = { type: 'module', name: 'split-inference-sockets' } as const;
    const file = 'socket-worker.js';
    const worker = isElsewhere(import.meta.url)
      ? startElsewhere(new URL(file, import.meta.url), options)
      : new Worker(new URL('./socket-worker.js', import.meta.url), { type: 'module', name: 'split-inference-sockets' });
    worker.onerror = (event) => {
      event.preventDefault();
      this.#fail(event.message || 'its script cannot be loaded');
    };
    return worker;
  }

  #fail(why: string): void {
    this.#worker?.terminate();
    this.#worker = undefined;
    this.#ahead = undefined;
    const message = `the web worker that holds the connection failed: ${why}`;
    this.#onFailure(new SplitError('worker-failed', message));
    this.#latest?.lose(message);
  }
}

/** A WebSocket that lives in another web worker. */
class RemoteSocket implements MessageSocket {
  onopen: MessageSocket['onopen'] = null;
  onmessage: MessageSocket['onmessage'] = null;
  onclose: MessageSocket['onclose'] = null;
  /** Settles when it is closed, from whichever side. */
  readonly closed: Promise<void>;
  readonly #port: MessagePort;
  /** How far this web worker's clock is ahead of the other's. Their origins say it only as long as nobody sets the time of day. */
  #ahead = Number.POSITIVE_INFINITY;
  #settle = () => {};

  constructor(port: MessagePort) {
    this.#port = port;
    this.closed = new Promise((resolve) => {
      this.#settle = resolve;
    });
  }

  /** Begins to report, with what has happened so far; never from within this call. */
  listen(): void {
    this.#port.onmessage = ({ data }: MessageEvent<SocketEvent>) => this.#receive(data);
  }

  /** Takes the message over. */
  send(message: Uint8Array): void {
    this.#port.postMessage(message, [message.buffer as ArrayBuffer]);
  }

  close(): void {
    this.#port.postMessage(null);
  }

  /** To be told that there is no web worker any more that could close it. */
  lose(reason: string): void {
    this.#port.close();
    this.#receive({ type: 'close', code: ABNORMAL, reason });
  }

  /** A time of the other clock on this one's: of all messages, the one that was the fastest to come here tells their difference best. */
  #here(at: number): number {
    this.#ahead = Math.min(this.#ahead, performance.now() - at);
    return at + this.#ahead;
  }

  #receive(event: SocketEvent): void {
    switch (event.type) {
      case 'open':
        this.#here(event.at);
        this.onopen?.();
        break;
      case 'message':
        this.onmessage?.({ data: event.data, timeStamp: this.#here(event.at) });
        break;
      case 'close':
        this.#settle();
        this.onclose?.(event);
        break;
    }
  }
}
