// Runs the same heads in the product's two binaries and in onnxruntime-web, in turns.

import * as ort from 'onnxruntime-web/wasm';

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

/** The parts of `split_client.js` that are used here. */
interface Program {
  default(from: { module_or_path: string }): Promise<{ memory: WebAssembly.Memory }>;
  Client: new (manifest: Uint8Array, listener: (event: Event) => void) => Client;
}

interface Client {
  missing(point: number): { path: string; sha256: string }[];
  addFile(sha256: string, bytes: Uint8Array): void;
  isReady(point: number): boolean;
  prepare(point: number): void;
  connect(socket: WebSocket): void;
  infer(frame: number, point: number, rgba: Uint8Array): { timings: Stages } | undefined;
}

type Event = { type: 'open' } | { type: 'result'; timings: Stages } | { type: string; message?: string };

/** Runs before any that counts. */
const WARM_UP = 20;
/** Runs of one side before another has its turn: enough to be in the processor's caches, few enough that a drift of the machine meets all. */
const TURN = 10;

/** One of the product's binaries, with a client that is connected. */
class Binary {
  readonly memory: WebAssembly.Memory;
  readonly #client: Client;
  readonly #manifest: URL;
  #waiting: ((event: Event) => void) | undefined;
  #frame = 0;

  private constructor(memory: WebAssembly.Memory, program: Program, manifest: URL, json: Uint8Array) {
    this.memory = memory;
    this.#manifest = manifest;
    this.#client = new program.Client(json, (event) => this.#waiting?.(event));
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
    binary.#client.connect(new WebSocket(url));
    expect(await open, 'open');
    return binary;
  }

  /** Makes a point ready; returns how long that took without the downloads. */
  async prepare(point: number): Promise<number> {
    if (this.#client.isReady(point)) return 0;
    for (const { path, sha256 } of this.#client.missing(point)) {
      const response = await fetch(new URL(path, this.#manifest));
      this.#client.addFile(sha256, new Uint8Array(await response.arrayBuffer()));
    }
    const began = performance.now();
    this.#client.prepare(point);
    return performance.now() - began;
  }

  /** Runs one frame and waits for its answer. */
  async infer(point: number, rgba: Uint8Array): Promise<Stages> {
    const answer = this.#event();
    const local = this.#client.infer(this.#frame++, point, rgba);
    if (local) return local.timings;
    const event = await answer;
    expect(event, 'result');
    return (event as { timings: Stages }).timings;
  }

  #event(): Promise<Event> {
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
    turns(times.relaxed, (rgba) => relaxed.infer(point, rgba)),
    turns(times.simd, (rgba) => simd.infer(point, rgba)),
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
    await turns<Stages>([], (rgba) => binary.infer(point, rgba))(frames, WARM_UP);
    return { milliseconds, grownBytes: binary.memory.buffer.byteLength - beforeBytes };
  };
  return { relaxed: await one(relaxed), simd: await one(simd) };
}

async function soak({ relaxed, frames }: Ready, point: number, count: number) {
  await relaxed.prepare(point);
  const run = turns<Stages>([], (rgba) => relaxed.infer(point, rgba));
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

function expect(event: Event, type: string): void {
  if (event.type !== type) throw new Error(`'${type}' was expected, '${event.type}' came: ${JSON.stringify(event)}`);
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
