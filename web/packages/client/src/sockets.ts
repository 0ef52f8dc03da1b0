import type { MessageSocket } from '../wasm/simd/split_client.js';

/** What happens to a socket, as its web worker tells. */
export type SocketEvent =
  | { type: 'open' }
  /** `at` is when it arrived, in milliseconds since the epoch. */
  | { type: 'message'; data: unknown; at: number }
  | { type: 'close'; code: number; reason: string };

/** A message to be sent, or null: the socket is to be closed. */
export type SocketRequest = Uint8Array | null;

/** How long a goodbye may take. */
const GOODBYE_MS = 500;

/**
 * Opens WebSockets in a web worker of their own, which computes nothing.
 *
 * The one that runs the heads sees an answer only between two heads, when nobody knows any more how long it has been there. On a slow
 * device that is a head's time, which would pass for the link's.
 */
export class Sockets {
  readonly #worker = new Worker(new URL('./socket-worker.js', import.meta.url), {
    type: 'module',
    name: 'split-inference-sockets',
  });
  #latest: RemoteSocket | undefined;

  /** Starts connecting. */
  open(url: string): MessageSocket {
    const { port1, port2 } = new MessageChannel();
    this.#worker.postMessage(url, [port2]);
    this.#latest = new RemoteSocket(port1);
    return this.#latest;
  }

  /** Settles once what was sent last before a socket was closed is on its way. */
  async closed(): Promise<void> {
    const enough = new Promise<void>((resolve) => setTimeout(resolve, GOODBYE_MS));
    await Promise.race([this.#latest?.closed, enough]);
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
  #settle = () => {};

  constructor(port: MessagePort) {
    this.#port = port;
    this.closed = new Promise((resolve) => {
      this.#settle = resolve;
    });
    port.onmessage = ({ data }: MessageEvent<SocketEvent>) => this.#receive(data);
  }

  send(message: Uint8Array): void {
    // A copy: what is given may lie in WebAssembly's memory, which cannot be handed over.
    const bytes = message.slice();
    this.#port.postMessage(bytes, [bytes.buffer]);
  }

  close(): void {
    this.#port.postMessage(null);
  }

  #receive(event: SocketEvent): void {
    switch (event.type) {
      case 'open':
        this.onopen?.();
        break;
      case 'message':
        this.onmessage?.({ data: event.data, timeStamp: event.at - performance.timeOrigin });
        break;
      case 'close':
        this.#settle();
        this.onclose?.(event);
        break;
    }
  }
}
