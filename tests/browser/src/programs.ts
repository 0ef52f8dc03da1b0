import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';

import { place } from './places.js';

/** Folder of the native programs. */
const PROGRAMS = process.env.PROGRAMS ?? place('target/debug');

/** Runs a program to its end; returns what it wrote to standard output. */
export async function run(name: string, args: string[], input?: Uint8Array): Promise<string> {
  const child = spawn(`${PROGRAMS}/${name}`, args, { stdio: ['pipe', 'pipe', 'inherit'] });
  child.stdin.end(input);
  let output = '';
  child.stdout.setEncoding('utf8').on('data', (it: string) => {
    output += it;
  });
  const [code] = await once(child, 'close');
  if (code !== 0) throw new Error(`${name} ${args.join(' ')} ended with ${code}`);
  return output;
}

/** A program that says on which address it listens, and then answers every line with a line. */
export class Server {
  /** Where it listens: `http://127.0.0.1:…`. */
  readonly url: string;
  readonly #child: ChildProcess;
  readonly #lines: AsyncIterator<string>;

  private constructor(child: ChildProcess, lines: AsyncIterator<string>, url: string) {
    this.url = url;
    this.#child = child;
    this.#lines = lines;
  }

  static async start(name: string, args: string[]): Promise<Server> {
    const child = spawn(`${PROGRAMS}/${name}`, args, { stdio: ['pipe', 'pipe', 'inherit'] });
    process.once('exit', () => child.kill('SIGKILL'));
    const lines = createInterface(child.stdout)[Symbol.asyncIterator]();
    const { value: line = '' } = await lines.next();
    const url = /^listening on (\S+)$/.exec(line)?.[1];
    if (!url) throw new Error(`${name} did not start`);
    return new Server(child, lines, url);
  }

  /** Host and port. */
  get address(): string {
    return new URL(this.url).host;
  }

  /** Writes a line to standard input and waits for the answer. */
  async say(line: string): Promise<void> {
    this.#child.stdin?.write(`${line}\n`);
    await this.#lines.next();
  }

  /** Closes its standard input, at which it ends, with what it started. */
  async end(): Promise<void> {
    const exit = once(this.#child, 'exit');
    this.#child.stdin?.end();
    await exit;
  }

  /** Ends it at once, as a crash would. */
  async kill(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    this.#child.kill('SIGKILL');
    await once(this.#child, 'exit');
  }
}
