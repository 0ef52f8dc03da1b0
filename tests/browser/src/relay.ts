import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server as Listener, type Socket } from 'node:net';

import type { Server } from './programs.js';

/** A WebSocket's Close with code 1012, as a server sends it. */
const MOVED = new Uint8Array([0x88, 2, 0x03, 0xf4]);

/** Passes bytes on to a server, until it plays an edge worker that moves its clients on and is then gone. */
export class Relay {
  readonly #listener: Listener;
  /** The clients' ends of WebSockets. */
  readonly #sockets = new Set<Socket>();
  #gone = false;
  /** Bytes that clients have sent over WebSockets. */
  sentBytes = 0;
  /** How many times a server may send over a WebSocket before that is closed. */
  #patience = Number.POSITIVE_INFINITY;
  /** While answers are held back: to be told when a frame was sent. */
  #asked: (() => void) | undefined;

  private constructor({ address }: Server) {
    const [host, port] = address.split(':');
    this.#listener = createServer((client) => {
      client.on('error', () => client.destroy());
      if (this.#gone) client.destroy();
      else this.#pass(client, connect(Number(port), host));
    });
  }

  static async to(server: Server): Promise<Relay> {
    const relay = new Relay(server);
    await once(relay.#listener.listen(0, '127.0.0.1'), 'listening');
    return relay;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#listener.address() as AddressInfo).port}`;
  }

  /** From now on nothing is answered; settles when a frame has come. */
  hold(): Promise<void> {
    return new Promise((resolve) => {
      this.#asked = resolve;
    });
  }

  /** From now on, closes each WebSocket with 1012 once the server has sent this many times over it. */
  moveAfter(times: number): void {
    this.#patience = times;
  }

  /** Closes every WebSocket with 1012, and takes no connection any more. */
  move(): void {
    this.#gone = true;
    for (const client of this.#sockets) client.end(MOVED);
  }

  close(): void {
    this.move();
    this.#listener.close();
  }

  #pass(client: Socket, server: Socket): void {
    server.on('error', () => client.destroy());
    client.on('data', (bytes: Buffer) => {
      if (this.#sockets.has(client)) this.sentBytes += bytes.length;
      if (bytes.includes('/v1/infer')) this.#sockets.add(client);
      server.write(bytes);
      if (isInfer(bytes)) this.#asked?.();
    });
    let said = 0;
    server.on('data', (bytes: Buffer) => {
      if (!this.#asked) client.write(bytes);
      const headers = bytes.indexOf('\r\n\r\n');
      const hasMessage = headers < 0 || headers + 4 < bytes.length;
      if (hasMessage) said += 1;
      if (this.#sockets.has(client) && said >= this.#patience) client.end(MOVED);
    });
    client.on('close', () => {
      this.#sockets.delete(client);
      server.destroy();
    });
    server.on('close', () => client.end());
  }
}

/** Whether this is a client's WebSocket frame with an `Infer`. */
function isInfer(bytes: Uint8Array): boolean {
  const [, second = 0] = bytes;
  const mask = { 126: 4, 127: 10 }[second & 0x7f] ?? 2;
  return ((bytes[mask] ?? 0) ^ (bytes[mask + 4] ?? 0)) === 1;
}
