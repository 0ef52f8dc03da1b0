import type { Client } from '../wasm/simd/split_client.js';
import { Announcer } from './announcer.js';
import { canReadCanvases, FrameCanvas, writes } from './canvas.js';
import { Connection } from './connection.js';
import { asSplitError, type ErrorCode } from './errors.js';
import { Frames } from './frames.js';
import { Heads } from './heads.js';
import { restoreProfile, saveProfile } from './profile.js';
import { binaryName, loadProgram, type Program } from './program.js';
import type { Request, Response } from './protocol.js';
import { downloadManifest } from './series.js';
import { SIZES } from './sizes.js';
import { Clock, type Link, SlowerSocket } from './slower.js';
import { Sockets } from './sockets.js';
import type { ClientEvent } from './steps.js';
import type { Diagnosis, Progress, Series, StateChange } from './types.js';
import { inferUrl, manifestUrl } from './urls.js';

type Post = (response: Response) => void;
type Start = Extract<Request, { type: 'start' }>;

/** What a service is made of. */
interface Parts {
  program: Program;
  manifest: Uint8Array;
  sockets: Sockets;
  announcer: Announcer;
  startMs: { program: number; manifest: number };
}

/** How often the client looks after its connection. */
const TICK_MS = 200;
/** How often what was learnt of this device is kept. */
const SAVE_MS = 10_000;

/** Manifests that are asked for while edge workers are being updated. */
const MANIFESTS = 3;
/** Ends of connections that the state says enough of. */
const LOSSES: ReadonlySet<ErrorCode> = new Set(['connection-lost', 'offline', 'edge-shutting-down']);

/** Everything that the web worker does for one page. */
export class Service {
  readonly #client: Client;
  readonly #clock = new Clock();
  /** What the link is made like. */
  readonly #link: Link = { throttle: undefined };
  readonly #post: Post;
  readonly #announcer: Announcer;
  readonly #series: Series;
  readonly #frames: Frames;
  readonly #connection: Connection;
  /** When each part was there. */
  readonly #startMs: Diagnosis['startMs'];
  readonly #timers: ReturnType<typeof setInterval>[] = [];
  #change: StateChange | undefined;

  /** Loads program and manifest and connects. */
  static async start(start: Start, post: Post): Promise<Service> {
    const announcer = new Announcer(post);
    const sockets = new Sockets((error) => announcer.problem(error));
    sockets.openAhead(inferUrl(start.url, start.series).href);
    const onBytes = counted((progress) => post({ type: 'progress', progress }));
    const startMs = { program: 0, manifest: 0 };
    const noted = async <Loaded>(part: keyof typeof startMs, loading: Promise<Loaded>) => {
      const loaded = await loading;
      startMs[part] = performance.now();
      return loaded;
    };
    const [program, manifest] = await Promise.all([
      noted('program', loadProgram(onBytes)),
      noted('manifest', downloadManifest(start.url, start.series)),
    ]);
    const parts = { program, sockets, announcer, startMs };
    let service = new Service({ ...parts, manifest }, start, post);
    for (let attempt = 1; (await service.#connect()) === 'manifest-mismatch' && attempt < MANIFESTS; attempt += 1) {
      // The edge worker was updated after it had given the manifest, or another one answers now.
      const newer = await downloadManifest(start.url, start.series, 'reload').catch(() => undefined);
      if (!newer) break;
      await service.close();
      parts.announcer.forget();
      service = new Service({ ...parts, manifest: newer }, start, post);
    }
    service.#begin();
    return service;
  }

  private constructor({ program, manifest, sockets, announcer, startMs }: Parts, start: Start, post: Post) {
    const client = new program.Client(manifest, start.pixels, this.#clock.now, (it: ClientEvent) => this.#receive(it));
    if (start.goal) client.setGoal(start.goal);
    const series = client.series() as Series;
    const onProgress = (progress: Progress) => post({ type: 'progress', progress });
    const manifestAt = manifestUrl(start.url, start.series);
    const heads = new Heads({ client, clock: this.#clock, manifest: manifestAt, announcer, onProgress });
    const canvas = new FrameCanvas(client.pictures());
    this.#startMs = { ...startMs, ready: 0 };
    this.#client = client;
    this.#post = post;
    this.#announcer = announcer;
    this.#series = series;
    const { points } = series;
    this.#frames = new Frames({ client, clock: this.#clock, canvas, points, heads, announcer, post });
    const url = inferUrl(start.url, start.series).href;
    const line = {
      open: () => new SlowerSocket(sockets.open(url), this.#clock, this.#link),
      close: () => sockets.close(),
    };
    this.#connection = new Connection(client, line, start.token, (change) => this.#changed(change));
  }

  /** Does what the page says. */
  take(request: Exclude<Request, Start | { type: 'close' }>): void {
    switch (request.type) {
      case 'frame':
        this.#frames.add(request);
        break;
      case 'goal':
        // It was checked, and the series has it.
        this.#client.setGoal(request.goal);
        this.#frames.wake();
        break;
      case 'throttle':
        this.#clock.slowdown = request.throttle.device ?? 1;
        this.#link.throttle = request.throttle.link;
        break;
      case 'reconnect':
        this.#connection.hurry();
        break;
      case 'diagnose': {
        const binary = binaryName();
        const measured = { startMs: this.#startMs, profile: this.#client.profile() as unknown };
        this.#post({ type: 'diagnosis', diagnosis: { binary, binaryBytes: SIZES[binary], ...measured } });
        break;
      }
    }
  }

  /** Says goodbye to the edge worker and keeps what was learnt. */
  async close(): Promise<void> {
    for (const timer of this.#timers) clearInterval(timer);
    this.#frames.clear();
    await Promise.all([this.#connection.close(), this.#save()]);
  }

  /** Connects for the first time; returns why the connection ended, if it did. */
  async #connect(): Promise<ErrorCode | undefined> {
    this.#connection.open();
    this.#every(TICK_MS, () => this.#tick());
    await Promise.all([this.#excludeFormats(), this.#restore(), this.#connection.settled]);
    return this.#change?.problem?.code;
  }

  #begin(): void {
    this.#startMs.ready = performance.now();
    this.#post({ type: 'ready', series: this.#series });
    this.#announcer.begin();
    // Again, for listeners that came with the client: why there is no connection.
    if (this.#change?.problem) this.#changed(this.#change);
    this.#frames.begin();
    this.#every(SAVE_MS, () => this.#save());
  }

  /** Not while a device that is made slower computes, and reads no messages, but then as soon as it has: it may compute whenever someone looks. */
  async #tick(): Promise<void> {
    try {
      await this.#clock.caughtUp();
      this.#client.tick();
      this.#frames.wake();
    } catch (thrown) {
      this.#announcer.problem(asSplitError(thrown));
    }
  }

  #every(milliseconds: number, work: () => void | Promise<void>): void {
    const run = async () => {
      try {
        await work();
      } catch (thrown) {
        this.#announcer.problem(asSplitError(thrown));
      }
    };
    this.#timers.push(setInterval(run, milliseconds));
    run();
  }

  async #excludeFormats(): Promise<void> {
    const types = new Set(this.#series.points.flatMap((it) => it.image?.type ?? []));
    for (const type of types) {
      if (!canReadCanvases() || !(await writes(type).catch(() => false))) this.#client.excludeFormat(type);
    }
  }

  async #restore(): Promise<void> {
    const profile = await restoreProfile(this.#series.digest);
    if (profile !== undefined) this.#client.setProfile(profile);
  }

  async #save(): Promise<void> {
    await saveProfile(this.#series.digest, this.#client.profile());
  }

  #receive(event: ClientEvent): void {
    switch (event.type) {
      case 'open':
        this.#connection.opened();
        this.#tick();
        break;
      case 'answered':
        this.#connection.answered();
        // The first probes follow each other at once.
        this.#tick();
        break;
      case 'answer':
      case 'dropped':
        this.#connection.answered();
        if (event.selection) this.#post({ type: 'selection', selection: event.selection });
        this.#frames.end(event);
        break;
      case 'closed':
        this.#connection.closed(event);
        if (!LOSSES.has(event.code)) this.#announcer.problem(event);
        break;
      case 'moved':
        this.#connection.moved();
        break;
    }
    this.#frames.wake();
  }

  #changed(change: StateChange): void {
    this.#change = change;
    this.#post({ type: 'state', change });
  }
}

/** Adds up what arrives of the program. The manifest is small beside it, and its size is unknown: servers tell sizes before unpacking. */
function counted(onProgress: (progress: Progress) => void): (bytes: number) => void {
  const totalBytes = SIZES[binaryName()];
  let loadedBytes = 0;
  return (bytes) => {
    loadedBytes = Math.min(loadedBytes + bytes, totalBytes);
    onProgress({ stage: 'program', loadedBytes, totalBytes });
  };
}
