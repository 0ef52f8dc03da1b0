import { type ChildProcessByStdio, execFileSync, spawn, spawnSync } from 'node:child_process';
import { readdir, readFile } from 'node:fs/promises';
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

/** Threads of a page's process that compute, besides its first one. The others draw, and bring frames of videos to the screen. */
const COMPUTING = 'DedicatedWorker';
/** How often new threads are looked for. */
const LOOK_MS = 500;

/**
 * Leaves the browser's core to the threads that pages compute on, until the browser is closed. Everything else stands for what a device has other
 * cores and hardware for: the camera, which is a file here, and what is composed and drawn, which programs do here. At ten times the time that
 * alone would fill the core, and Chromium gives it precedence.
 */
export async function leaveToPages(browser: Browser): Promise<void> {
  const session = await browser.newBrowserCDPSession();
  const moved = new Set<number>();
  const move = async () => {
    const { processInfo } = await session.send('SystemInfo.getProcessInfo');
    for (const { type, id } of processInfo) {
      const threads = await threadsOf(id);
      const isPage = type === 'renderer' && !(await isOwn(id));
      // Until a thread has a name of its own, it has that of the one which started it: what it is for shows only later.
      const unnamed = threads.find((it) => it.id === id)?.name;
      for (const thread of threads) {
        const stays = isPage && [unnamed, COMPUTING].includes(thread.name);
        if (stays || moved.has(thread.id)) continue;
        pin(EDGE_CORE, thread.id);
        moved.add(thread.id);
      }
    }
  };
  await move();
  const timer = setInterval(() => move().catch(() => clearInterval(timer)), LOOK_MS);
  browser.on('disconnected', () => clearInterval(timer));
}

/** Whether a process draws what belongs to Chromium itself: it loads that ahead, on a slowed core for half a minute. */
async function isOwn(process: number): Promise<boolean> {
  const command = await readFile(`/proc/${process}/cmdline`, 'utf8').catch(() => '');
  return command.includes('--top-chrome-webui');
}

/** Threads of a process; none if it has ended. The system keeps 15 characters of a name. */
async function threadsOf(process: number): Promise<{ id: number; name: string }[]> {
  const folder = `/proc/${process}/task`;
  try {
    const ids = await readdir(folder);
    return await Promise.all(
      ids.map(async (id) => ({ id: Number(id), name: (await readFile(`${folder}/${id}/comm`, 'utf8')).trim() })),
    );
  } catch {
    return [];
  }
}

/** Holds this process to a core, or one thread. */
function pin(core: number, thread?: number): void {
  if (!canPin()) return;
  const what = thread === undefined ? ['--all-tasks'] : [];
  const id = thread ?? process.pid;
  // A thread may have ended meanwhile.
  spawnSync('taskset', [...what, '--cpu-list', '--pid', `${core}`, `${id}`], { stdio: 'ignore' });
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
