import type { MessageSocket } from '../wasm/simd/split_client.js';
import { pause } from './pause.js';
import type { LinkThrottle } from './types.js';

/**
 * A clock on which computing takes as long as on a slower device.
 *
 * It runs ahead of the real time while something is computed, and stands still until that has caught up. What was computed must wait for that.
 */
export class Clock {
  /** How many times as long computing takes. */
  slowdown = 1;
  /** The time when computing ended last. */
  #ended = 0;
  /** While something is computed: when that began, on this clock and in real time. */
  #began: { here: number; real: number } | undefined;

  /** The time in milliseconds, that of `performance.now()` unless it is ahead. */
  readonly now = (): number => {
    const real = performance.now();
    if (!this.#began) return Math.max(real, this.#ended);
    return this.#began.here + (real - this.#began.real) * this.slowdown;
  };

  /** Computes something. */
  run<Done>(work: () => Done): Done {
    this.#began = { here: this.now(), real: performance.now() };
    try {
      return work();
    } finally {
      this.#ended = this.now();
      this.#began = undefined;
    }
  }

  /** The same for what the browser computes elsewhere; settles once the time has caught up. */
  async over<Done>(work: () => Promise<Done>): Promise<Done> {
    const began = performance.now();
    const done = await work();
    this.#ended = this.now() + (this.slowdown - 1) * (performance.now() - began);
    await this.caughtUp();
    return done;
  }

  /** By how much it is ahead of the real time, in milliseconds. */
  get ahead(): number {
    return Math.max(0, this.#ended - performance.now());
  }

  /** Settles once the real time has caught up, but for the part of a millisecond that timers do not count. */
  async caughtUp(): Promise<void> {
    for (let rest = this.ahead; rest >= 1; rest = this.ahead) {
      await pause(Math.floor(rest));
    }
  }
}

/** What a link is made like; that may change. */
export interface Link {
  throttle: LinkThrottle | undefined;
}

/**
 * One direction of a link that is made slower.
 *
 * A message arrives when everything before it has been sent, its own bytes have been sent at the rate, and half a round trip has passed.
 */
export class Lane {
  /** When everything handed over so far has been sent. */
  #free = 0;
  /** When the last of it arrives: nothing overtakes it, whatever becomes of the throttle. */
  #last = 0;
  /** What hands on each message that has not arrived. */
  readonly waiting: (() => void)[] = [];

  /** When what is handed over at this time arrives, both in milliseconds. */
  arrival(link: LinkThrottle | undefined, handedOver: number, bytes: number): number {
    let arrival = handedOver;
    if (link) {
      this.#free = Math.max(this.#free, handedOver) + (1000 * bytes) / link.bytesPerSecond;
      arrival = this.#free + link.roundTripMs / 2;
    }
    this.#last = Math.max(this.#last, arrival);
    return this.#last;
  }
}

/** A WebSocket whose messages take longer, as its link says. */
export class SlowerSocket implements MessageSocket {
  onopen: MessageSocket['onopen'] = null;
  onmessage: MessageSocket['onmessage'] = null;
  onclose: MessageSocket['onclose'] = null;
  readonly #socket: MessageSocket;
  readonly #clock: Clock;
  readonly #link: Link;
  readonly #up = new Lane();
  readonly #down = new Lane();

  constructor(socket: MessageSocket, clock: Clock, link: Link) {
    this.#socket = socket;
    this.#clock = clock;
    this.#link = link;
    socket.onopen = () => this.#pass(this.#down, clock.now(), 0, () => this.onopen?.());
    socket.onmessage = ({ data, timeStamp }) => {
      const bytes = data instanceof ArrayBuffer ? data.byteLength : 0;
      this.#pass(this.#down, timeStamp, bytes, (at) => this.onmessage?.({ data, timeStamp: at }));
    };
    socket.onclose = ({ code, reason }) =>
      this.#pass(this.#down, clock.now(), 0, () => this.onclose?.({ code, reason }));
  }

  send(message: Uint8Array): void {
    // A copy: what is given may lie in WebAssembly's memory, which is soon used for something else, and cannot be handed over.
    const bytes = message.slice();
    this.#pass(this.#up, this.#clock.now(), bytes.length, () => this.#socket.send(bytes));
  }

  close(): void {
    this.#up.waiting.length = 0;
    this.#down.waiting.length = 0;
    this.#socket.close();
  }

  /** Hands something on when it has arrived, and not while the device computes. */
  #pass(lane: Lane, handedOver: number, bytes: number, hand: (at: number) => void): void {
    const at = lane.arrival(this.#link.throttle, handedOver, bytes);
    const wait = Math.max(at - performance.now(), this.#clock.ahead);
    // A timer may be late: what should have arrived by now can still be waiting.
    if (wait < 1 && lane.waiting.length === 0) {
      hand(at);
    } else {
      lane.waiting.push(() => hand(at));
      setTimeout(() => lane.waiting.shift()?.(), Math.ceil(wait));
    }
  }
}
