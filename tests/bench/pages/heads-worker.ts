// Runs the same heads in the product's two binaries and in onnxruntime-web, in turns.

import * as ort from 'onnxruntime-web/wasm';

import type { Client, MessageSocket } from '../../../web/packages/client/wasm/simd/split_client.js';
import { type Input, normalize, openSession } from './onnx.js';

/** What can be asked. */
export type Request =
  /** Loads both binaries and connects each to the edge worker. */
  | { type: 'start'; edge: string }
  /** Times an operating point's head and the same head as ONNX. */
  | { type: 'time'; point: number; model: string; rounds: number }
  /** Loads an operating point's head, which no earlier request has loaded, and runs it, in each binary. */
  | { type: 'load'; point: number }
  /** Runs many frames through one binary. */
  | { type: 'soak'; point: number; frames: number };

/** What is answered. */
export interface Response {
  start: undefined;
  time: Times;
  load: Record<'relaxed' | 'simd', Loading>;
  soak: { beforeBytes: number; afterBytes: number };
}

/** Milliseconds of every run. */
export interface Times {
  relaxed: Stages[];
  simd: Stages[];
  onnxruntime: { normalize: number; head: number }[];
}

/** What it takes to make a head ready, its files being there. */
export interface Loading {
  milliseconds: number;
  /** By how much the WebAssembly memory has grown with the files, the head, and the runs of it. */
  grownBytes: number;
}

interface Stages {
  normalize: number;
  head: number;
  encode: number;
  decode: number;
}

type Program = typeof import('../../../web/packages/client/wasm/simd/split_client.js');

type Step =
  | { type: 'open' | 'capture' | 'sent' }
  | { type: 'load'; point: number; files: { path: string; sha256: string }[] }
  | { type: 'wait'; milliseconds: number }
  | { type: 'answer'; result: { point: number; timings: Stages } };

/** Speed at which files arrive (20 Mbit/s): the browser optimises the kernels meanwhile. */
const DOWNLOAD_BYTES_PER_MS = 2500;
/** Runs before any that counts. */
const WARM_UP = 20;
/** Runs of one side before another has its turn: enough to be in the processor's caches, few enough that a drift of the machine meets all. */
const TURN = 10;

/** One of the product's binaries, with a client that is connected. */
class Binary {
  readonly memory: WebAssembly.Memory;
  readonly #client: Client;
  readonly #manifest: URL;
  readonly #input: Input;
  /** Files of heads that the client wants. */
  readonly #wanted = new Map<number, { path: string; sha256: string }[]>();
  #waiting: ((step: Step) => void) | undefined;
  #frame = 0;
  #point = 0;

  private constructor(memory: WebAssembly.Memory, program: Program, manifest: URL, json: Uint8Array) {
    this.memory = memory;
    this.#manifest = manifest;
    this.#input = JSON.parse(new TextDecoder().decode(json)).input;
    this.#client = new program.Client(
      json,
      false,
      () => performance.now(),
      (step: Step) => this.#waiting?.(step),
    );
  }

  static async load(flavour: 'relaxed' | 'simd', edge: string): Promise<Binary> {
    const program: Program = await import(`/wasm/${flavour}/split_client.js`);
    const { memory } = await program.default({ module_or_path: `/wasm/${flavour}/split_client_bg.wasm` });
    const manifest = new URL('v1/manifest.json', edge);
    const json = new Uint8Array(await (await fetch(manifest)).arrayBuffer());
    const binary = new Binary(memory, program, manifest, json);
    const open = binary.#event();
    const url = new URL('v1/infer', edge);
    url.protocol = 'ws:';
    // Its handlers may be given an event, which these do without.
    binary.#client.connect(new WebSocket(url) as unknown as MessageSocket);
    expect(await open, 'open');
    return binary;
  }

  /** Makes a point ready and the one in use; returns how long that took after the downloads. */
  async prepare(point: number): Promise<number> {
    this.#point = point;
    this.#client.setGoal({ kind: 'fixed', point });
    this.#next();
    const files = this.#wanted.get(point);
    if (!files) return 0;
    this.#wanted.delete(point);
    this.#client.warmUp();
    for (const { path, sha256 } of files) {
      const response = await fetch(new URL(path, this.#manifest));
      const bytes = new Uint8Array(await response.arrayBuffer());
      await new Promise((resolve) => setTimeout(resolve, bytes.length / DOWNLOAD_BYTES_PER_MS));
      this.#client.addFile(sha256, bytes);
    }
    const began = performance.now();
    this.#client.prepare(point);
    return performance.now() - began;
  }

  /** Runs one frame through the point in use and waits for its answer. */
  async infer(rgba: Uint8Array): Promise<Stages> {
    const [, height, width] = this.#input.shape;
    const answer = this.#event();
    let next = this.#next();
    while (next.type === 'wait') {
      const { milliseconds } = next;
      await new Promise((resolve) => setTimeout(resolve, milliseconds));
      next = this.#next();
    }
    expect(next, 'capture');
    const pictures = this.#client.pictures();
    pictures.begin(width, height);
    pictures.push(rgba);
    const step = this.#client.infer(this.#frame++, performance.now());
    const { result } = expect(step.type === 'sent' ? await answer : step, 'answer');
    if (result.point !== this.#point) throw new Error(`point ${result.point} answered for ${this.#point}`);
    return result.timings;
  }

  /** What is to be done. Heads are loaded when they are measured: the client wants one for the time without a link, too. */
  #next(): Exclude<Step, { type: 'load' }> {
    for (;;) {
      const step = this.#client.next(this.#frame);
      if (step.type !== 'load') return step;
      this.#wanted.set(step.point, step.files);
    }
  }

  #event(): Promise<Step> {
    return new Promise((resolve) => {
      this.#waiting = resolve;
    });
  }
}

interface Ready {
  relaxed: Binary;
  simd: Binary;
  input: Input;
  frames: Uint8Array[];
}

let ready: Ready | undefined;

async function start(edge: string): Promise<undefined> {
  const { input } = (await (await fetch(new URL('v1/manifest.json', edge))).json()) as { input: Input };
  const [, height, width] = input.shape;
  const frames = Array.from({ length: 16 }, (_, seed) => picture(width, height, seed));
  ready = { relaxed: await Binary.load('relaxed', edge), simd: await Binary.load('simd', edge), input, frames };
}

async function time({ relaxed, simd, input, frames }: Ready, point: number, model: string, rounds: number) {
  const session = await openSession(model, 1);
  const onnxruntime = async (rgba: Uint8Array) => {
    const began = performance.now();
    const tensor = new ort.Tensor('float32', normalize(input, rgba), [1, ...input.shape]);
    const normalized = performance.now();
    await session.run({ input: tensor });
    return { normalize: normalized - began, head: performance.now() - normalized };
  };
  await Promise.all([relaxed.prepare(point), simd.prepare(point)]);
  const times: Times = { relaxed: [], simd: [], onnxruntime: [] };
  const sides = [
    turns(times.relaxed, (rgba) => relaxed.infer(rgba)),
    turns(times.simd, (rgba) => simd.infer(rgba)),
    turns(times.onnxruntime, onnxruntime),
  ];
  for (const side of sides) await side(frames, WARM_UP);
  for (const side of Object.values(times)) side.length = 0;
  for (let round = 0; round < rounds; round += TURN) for (const side of sides) await side(frames, TURN);
  await session.release();
  return times;
}

function turns<T>(times: T[], run: (rgba: Uint8Array) => Promise<T>) {
  return async (frames: Uint8Array[], count: number) => {
    for (let at = 0; at < count; at += 1) times.push(await run(frames[at % frames.length] as Uint8Array));
  };
}

async function load({ relaxed, simd, frames }: Ready, point: number) {
  const one = async (binary: Binary): Promise<Loading> => {
    const beforeBytes = binary.memory.buffer.byteLength;
    const milliseconds = await binary.prepare(point);
    await turns<Stages>([], (rgba) => binary.infer(rgba))(frames, WARM_UP);
    return { milliseconds, grownBytes: binary.memory.buffer.byteLength - beforeBytes };
  };
  return { relaxed: await one(relaxed), simd: await one(simd) };
}

async function soak({ relaxed, frames }: Ready, point: number, count: number) {
  await relaxed.prepare(point);
  const run = turns<Stages>([], (rgba) => relaxed.infer(rgba));
  // The first frames make the buffers that are kept.
  await run(frames, 100);
  const beforeBytes = relaxed.memory.buffer.byteLength;
  for (let done = 0; done < count; done += 100) await run(frames, 100);
  return { beforeBytes, afterBytes: relaxed.memory.buffer.byteLength };
}

/** A disc on a gradient: neither flat nor noise. */
function picture(width: number, height: number, seed: number): Uint8Array {
  const rgba = new Uint8Array(width * height * 4);
  const [x0, y0] = [((seed * 7) % 16) / 16, ((seed * 5) % 16) / 16];
  for (let at = 0; at < width * height; at += 1) {
    const [x, y] = [(at % width) / width, Math.floor(at / width) / height];
    const inside = Math.hypot(x - x0, y - y0) < 0.3;
    rgba.set(inside ? [230, 255 * x, 60, 255] : [255 * x, 255 * y, 16 * seed, 255], 4 * at);
  }
  return rgba;
}

function expect<T extends Step['type']>(step: Step, type: T): Extract<Step, { type: T }> {
  if (step.type !== type) throw new Error(`'${type}' was expected, '${step.type}' came: ${JSON.stringify(step)}`);
  return step as Extract<Step, { type: T }>;
}

async function answer(request: Request): Promise<Response[Request['type']]> {
  if (request.type === 'start') return start(request.edge);
  if (!ready) throw new Error('not started');
  if (request.type === 'load') return load(ready, request.point);
  if (request.type === 'time') return time(ready, request.point, request.model, request.rounds);
  return soak(ready, request.point, request.frames);
}

self.onmessage = async ({ data }: MessageEvent<Request>) => {
  try {
    self.postMessage({ answer: await answer(data) });
  } catch (error) {
    const { message } = (error ?? {}) as { message?: string };
    self.postMessage({ error: message ?? String(error) });
  }
};
