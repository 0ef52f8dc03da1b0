import type { Client } from '../wasm/simd/split_client.js';
import type { Announcer } from './announcer.js';
import { asSplitError, SplitError } from './errors.js';
import type { Heads } from './heads.js';
import type { Goal, OperatingPoint, Selection, Series } from './types.js';

/** The operating point for one frame. */
export interface Choice {
  selection: Selection;
  /** The point to use: the one selected, or another while its head is being loaded. */
  point: OperatingPoint;
}

/** What was chosen for a frame says for so long what the next one wants. */
const FRESH_MS = 250;

/** Chooses operating points and sees to it that their heads are there in time. */
export class Points {
  readonly #client: Client;
  readonly #series: Series;
  readonly #heads: Heads;
  readonly #announcer: Announcer;
  readonly #onLoaded: (error?: SplitError) => void;
  /** Points whose heads were ready once, the latest first. */
  readonly #known: number[] = [];
  readonly #loading = new Set<number>();
  #latest: { selection: Selection; at: number } | undefined;
  /** Whether no frame is to leave the device. */
  #stays = false;
  /** The only point that may be used, if there is one. */
  #fixed: number | undefined;

  /** `onLoaded` is called whenever a head is ready, or with the reason why it is not. */
  constructor(
    client: Client,
    series: Series,
    heads: Heads,
    announcer: Announcer,
    onLoaded: (error?: SplitError) => void,
  ) {
    this.#client = client;
    this.#series = series;
    this.#heads = heads;
    this.#announcer = announcer;
    this.#onLoaded = onLoaded;
  }

  /** Changes how points are chosen. Returns the frames on their way to be sent again that are not to leave the device by this goal. */
  setGoal(goal: Goal): Uint32Array {
    const recalled = this.#client.setGoal(goal);
    this.#fixed = goal.kind === 'fixed' ? goal.point : undefined;
    const fixed = this.#fixed === undefined ? undefined : this.#series.points[this.#fixed];
    this.#stays = fixed ? isLocal(fixed) : 'among' in goal && goal.among === 'device';
    return recalled;
  }

  /** The operating point for the next frame; undefined if none is usable, `later` if its head is being loaded and no other will do. */
  choose(): Choice | 'later' | undefined {
    const selection = this.#select();
    if (!selection) return undefined;
    if (!this.#client.isReady(selection.point)) this.#load(selection.point);
    const index = [selection.point, ...this.#known].find((it) => this.#isUsable(it));
    const point = index === undefined ? undefined : this.#series.points[index];
    return point ? { selection, point } : 'later';
  }

  /** Why no operating point is usable: what is wrong with the one that was asked for, or that none meets the goal. */
  get obstacle(): SplitError {
    const failure = this.#fixed === undefined ? undefined : this.#heads.failure(this.#fixed);
    return failure ?? new SplitError('no-usable-point', 'no operating point meets the goal here');
  }

  /** To be told that a point is used: it is the one to fall back to. */
  use({ selection, point }: Choice): void {
    this.#remember(point.index);
    const selected = point.index === selection.point;
    const instead = { point: point.index, meets: false, kept: false, predicted: null, runnerUp: null };
    this.#announcer.selection(selected ? selection : { ...selection, ...instead });
  }

  /** While nothing else is to be done: loads the head of the next frame, then those that may be wanted later. */
  prefetch(): void {
    if (this.#loading.size > 0) return;
    const latest = this.#latest;
    const isFresh = latest !== undefined && performance.now() - latest.at < FRESH_MS;
    this.#prefetch(isFresh ? latest.selection : this.#select());
  }

  #prefetch(selection: Selection | undefined): void {
    const wanted = [selection?.point, this.#refuge(), selection?.runnerUp?.point];
    // What cannot be had now must not keep the refuge away.
    const next = wanted.find((it) => it !== undefined && !this.#client.isReady(it) && this.#client.mayLoad(it));
    if (next !== undefined) this.#load(next);
    if (selection && this.#client.isReady(selection.point)) this.#announcer.selection(selection);
  }

  #select(): Selection | undefined {
    const selection = this.#client.choose() as Selection | undefined;
    this.#latest = selection && { selection, at: performance.now() };
    return selection;
  }

  /** Where everything runs on the device: frames go there at once when the connection is lost. */
  #refuge(): number | undefined {
    const { points, defaultPoint } = this.#series;
    const local = points.filter(isLocal);
    return (local.find((it) => it.variant === points[defaultPoint]?.variant) ?? local[0])?.index;
  }

  #isUsable(index: number): boolean {
    const point = this.#series.points[index];
    if (!point || !this.#client.isReady(index)) return false;
    // Whoever wants everything on the device does not want it elsewhere either while its head is being loaded.
    return isLocal(point) || (this.#client.connected && !this.#stays);
  }

  #remember(index: number): void {
    const at = this.#known.indexOf(index);
    if (at === 0) return;
    if (at > 0) this.#known.splice(at, 1);
    this.#known.unshift(index);
  }

  #load(index: number): void {
    if (this.#loading.has(index)) return;
    this.#loading.add(index);
    this.#heads
      .load(index)
      .then(
        () => {
          if (!this.#known.includes(index)) this.#known.push(index);
          return undefined;
        },
        (thrown) => {
          const error = asSplitError(thrown);
          this.#announcer.problem(error);
          return error;
        },
      )
      .then((error) => {
        this.#loading.delete(index);
        this.#onLoaded(error);
      });
  }
}

/** Whether everything runs on the device. */
export function isLocal(point: OperatingPoint): boolean {
  return point.split === 'output';
}
