import { type ChildProcessByStdio, execFileSync, spawn } from 'node:child_process';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { createInterface, type Interface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';

import type { Browser } from 'playwright-core';

import type { Link } from './links.js';

/** The browser's core, and that of everything else. */
const DEVICE_CORE = 0;
const EDGE_CORE = 1;

const running = new Set<Program>();
process.on('exit', () => {
  for (const it of running) it.stop();
});
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => process.exit(1));

/** A program that says something on standard output once it is ready, and after every line that it is told. */
export class Program {
  readonly #child: ChildProcessByStdio<Writable, Readable, null>;
  readonly #lines: Interface;
  readonly #waiting: { resolve: (line: string) => void; reject: (error: Error) => void }[] = [];

  private constructor(command: string, parameters: string[]) {
    this.#child = spawn(command, parameters, { stdio: ['pipe', 'pipe', 'inherit'] });
    this.#lines = createInterface(this.#child.stdout);
    this.#lines.on('line', (line) => this.#waiting.shift()?.resolve(line));
    const fail = (why: string) => {
      for (const it of this.#waiting.splice(0)) it.reject(new Error(`${command} ${why}`));
    };
    this.#child.on('error', (error) => fail(`cannot be started: ${error.message}`));
    this.#child.on('exit', (code) => fail(`ended with ${code}`));
    running.add(this);
  }

  static async start(command: string, parameters: string[]): Promise<{ program: Program; said: string }> {
    const program = new Program(command, parameters);
    return { program, said: await program.#line() };
  }

  /** A program that says nothing until it is told something. */
  static silent(command: string, parameters: string[]): Program {
    return new Program(command, parameters);
  }

  async say(line: string): Promise<void> {
    const answer = this.#line();
    this.#child.stdin.write(`${line}\n`);
    await answer;
  }

  stop(): void {
    this.#child.kill();
    running.delete(this);
  }

  #line(): Promise<string> {
    if (this.#child.exitCode !== null) return Promise.reject(new Error(`${this.#child.spawnfile} has ended`));
    return new Promise((resolve, reject) => this.#waiting.push({ resolve, reject }));
  }
}

/** A server and the URL under which it is. */
export interface Server {
  program: Program;
  url: string;
}

/** An edge worker on one core of its own, without limits that would bind a benchmark. */
export async function edgeWorker(programs: string, models: string, web: string): Promise<Server> {
  const parameters = ['--models', models, '--web', web, '--listen', '127.0.0.1:0', '--threads', '1'];
  const unlimited = ['--messages-per-second', '1000000', '--allow-origin', '*', '--log-filter', 'warn'];
  return server(join(programs, 'edge-worker'), [...parameters, ...unlimited]);
}

/** A link to the server at a URL. */
export async function link(programs: string, to: string): Promise<Server> {
  return server(join(programs, 'link'), ['--to', new URL(to).host]);
}

export async function setLink(link: Server, { kilobitsPerSecond, roundTripMs }: Link): Promise<void> {
  await link.program.say(`${kilobitsPerSecond} ${roundTripMs}`);
}

async function server(command: string, parameters: string[]): Promise<Server> {
  const { program, said } = await Program.start(...onCore(EDGE_CORE, command, parameters));
  const url = said.match(/http:\/\/\S+/)?.[0];
  if (!url) throw new Error(`${command} did not say where it listens: '${said}'`);
  return { program, url: url.endsWith('/') ? url : `${url}/` };
}

/** Slows the browser's core down; none where the machine does not allow it. */
export async function slices(programs: string): Promise<Program | undefined> {
  if (!canPin()) return undefined;
  const program = Program.silent(...onCore(DEVICE_CORE, 'chrt', ['--fifo', '1', join(programs, 'slices')]));
  try {
    await program.say('1');
    return program;
  } catch {
    program.stop();
    return undefined;
  }
}

/** Does something whose processes stay on the browser's core; this process goes back to the other. */
export async function onDeviceCore<T>(start: () => Promise<T>): Promise<T> {
  pin(DEVICE_CORE);
  try {
    return await start();
  } finally {
    pin(EDGE_CORE);
  }
}

/**
 * Leaves the browser's core to its pages. Its own process and that of graphics stand for what a device has other cores and hardware for: the
 * camera, which is a file here, and what is composed and drawn, which programs do here. At five times the time they would fill the core alone.
 */
export async function leaveToPages(browser: Browser): Promise<void> {
  const session = await browser.newBrowserCDPSession();
  const { processInfo } = await session.send('SystemInfo.getProcessInfo');
  await session.detach();
  for (const { type, id } of processInfo) if (['browser', 'GPU'].includes(type)) pin(EDGE_CORE, id);
}

function pin(core: number, id: number = process.pid): void {
  if (!canPin()) return;
  execFileSync('taskset', ['--all-tasks', '--cpu-list', '--pid', `${core}`, `${id}`], { stdio: 'ignore' });
}

function onCore(core: number, command: string, parameters: string[]): [string, string[]] {
  return canPin() ? ['taskset', ['--cpu-list', `${core}`, command, ...parameters]] : [command, parameters];
}

function canPin(): boolean {
  // The number of cores is that of the machine: this process may already be held to one of them.
  return process.platform === 'linux' && CORES > EDGE_CORE;
}

const CORES = availableParallelism();

/** Runs a program to its end, its output shown. */
export function run(command: string, parameters: string[]): void {
  execFileSync(command, parameters, { stdio: 'inherit' });
}
