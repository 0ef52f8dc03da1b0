import type { Client, MessageSocket } from '../wasm/simd/split_client.js';
import type { Closed } from './steps.js';
import type { Problem, StateChange } from './types.js';

/** The first pause before connecting again. It doubles with every connection in a row that has not answered for longer than this. */
const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 30_000;
/** How long frames wait for the first connection before they do without. */
const FIRST_WAIT_MS = 2000;

/** Where sockets come from. */
interface Line {
  open(): MessageSocket;
  /** Ends it, once what was sent last before a socket was closed is on its way. */
  close(): Promise<void>;
}

/** Keeps the client connected, pausing longer and longer while that fails. */
export class Connection {
  readonly #client: Client;
  readonly #line: Line;
  readonly #token: string | undefined;
  readonly #onChange: (change: StateChange) => void;
  #failures = 0;
  /** When the edge worker gave its first answer over this connection. */
  #answeredAt: number | undefined;
  #again: ReturnType<typeof setTimeout> | undefined;
  #settle = () => {};
  /** Settles once it is known whether there is a connection to begin with. */
  readonly settled: Promise<void>;

  constructor(client: Client, line: Line, token: string | undefined, onChange: (change: StateChange) => void) {
    this.#client = client;
    this.#line = line;
    this.#token = token;
    this.#onChange = onChange;
    this.settled = new Promise((resolve) => {
      this.#settle = resolve;
      setTimeout(resolve, FIRST_WAIT_MS);
    });
  }

  /** Connects now. */
  open(): void {
    this.#cancel();
    this.#answeredAt = undefined;
    this.#onChange({ state: 'connecting' });
    this.#client.connect(this.#line.open(), this.#token);
  }

  /** Connects now if the next attempt is due only later. */
  hurry(): void {
    if (this.#again !== undefined) this.open();
  }

  /** To be told that the edge worker has welcomed the client. */
  opened(): void {
    this.#onChange({ state: 'connected' });
    this.#settle();
  }

  /** To be told that the edge worker has answered a request: only then does the connection work. */
  answered(): void {
    this.#answeredAt ??= performance.now();
  }

  /** To be told that the edge worker asks to connect again at once. One that does so again before it has worked for a while is asked later. */
  moved(): void {
    this.#ended(true);
  }

  /** To be told that the connection has ended, or did not come about. */
  closed({ code, message, retry }: Closed): void {
    this.#ended(retry, { code, message });
    this.#settle();
  }

  /** Says goodbye to the edge worker. */
  async close(): Promise<void> {
    this.#cancel();
    this.#client.close();
    await this.#line.close();
  }

  #ended(retry: boolean, problem?: Problem): void {
    if (performance.now() - (this.#answeredAt ?? Number.POSITIVE_INFINITY) >= FIRST_PAUSE_MS) this.#failures = 0;
    const retryMs = !problem && this.#failures === 0 ? 0 : pause(this.#failures);
    this.#failures += 1;
    // Not at once: this runs inside a handler of the socket that a new connection would drop.
    if (retry) this.#again = setTimeout(() => this.open(), retryMs);
    if (retryMs > 0) this.#onChange({ state: 'offline', ...(problem && { problem }), ...(retry && { retryMs }) });
  }

  #cancel(): void {
    clearTimeout(this.#again);
    this.#again = undefined;
  }
}

/** Between half of the pause and all of it, so that the clients of an edge worker that restarts do not come back all at once. */
function pause(failures: number): number {
  const longest = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** failures);
  return longest * (0.5 + 0.5 * Math.random());
}
