import { type ErrorCode, SplitError } from './errors.js';
import type { ClientEvents, ConnectOptions, Goal } from './types.js';

/** Everything that can be listened to. */
const EVENTS: readonly string[] = [
  'state',
  'selection',
  'stats',
  'problem',
  'progress',
] satisfies (keyof ClientEvents)[];
const AMONG: readonly unknown[] = ['all', 'device', 'edge', 'split'];
/** No series has more operating points: they are numbered by 16 bits. */
const MOST_POINTS = 0xffff;

/** The name of a value's class, which is right for objects of other windows, too, and needs no class to exist in this browser. */
export function kindOf(value: unknown): string {
  return Object.prototype.toString.call(value).slice('[object '.length, -1);
}

/** Throws what is wrong with the options of `connect`; URL and goal are checked where they are used. */
export function checkOptions(options: ConnectOptions): void {
  checkObject(options, 'the options of connect');
  const { series, token, pixels, onProgress, signal } = options;
  if (series !== undefined && typeof series !== 'string') throw wrong('series', 'a name', series);
  if (token !== undefined && typeof token !== 'string') throw wrong('token', 'a string', token);
  if (pixels !== undefined && typeof pixels !== 'boolean') throw wrong('pixels', 'true or false', pixels);
  if (onProgress !== undefined && typeof onProgress !== 'function') throw wrong('onProgress', 'a function', onProgress);
  checkSignal(signal);
}

/** Throws unless these are options with a signal or without. */
export function checkSignalOptions(options: { signal?: AbortSignal }): void {
  checkObject(options, 'the options');
  checkSignal(options.signal);
}

/** Throws unless there is such an event and something to call. */
export function checkListener(event: unknown, listener: unknown): void {
  if (!EVENTS.includes(event as string)) throw wrong('the event', `one of ${EVENTS.join(', ')}`, event);
  if (typeof listener !== 'function') throw wrong('the listener', 'a function', listener);
}

/**
 * A goal that makes sense, without what else the object may hold: functions, or a framework's proxies, could not go to the web worker. Throws what is
 * wrong with it. Whether the series has a fixed point is known only with the series.
 */
export function checkedGoal(goal: Goal): Goal {
  checkObject(goal, 'the goal', 'goal-invalid');
  switch (goal.kind) {
    case 'lowestLatency':
      return {
        kind: goal.kind,
        atLeast: checkedNumber(goal.atLeast, 'atLeast, an accuracy in percent,'),
        ...among(goal),
      };
    case 'highestAccuracy':
      return {
        kind: goal.kind,
        atMost: checkedNumber(goal.atMost, 'atMost, a latency in milliseconds,'),
        ...among(goal),
      };
    case 'fixed': {
      const { kind, point } = goal;
      if (!Number.isInteger(point)) throw wrong('point', 'a whole number', point, 'goal-invalid');
      if (point < 0 || point > MOST_POINTS) throw noSuchPoint(point);
      return { kind, point };
    }
    default: {
      const { kind } = goal as { kind: unknown };
      throw wrong('kind', 'lowestLatency, highestAccuracy or fixed', kind, 'goal-invalid');
    }
  }
}

/** The series does not have this operating point. */
export function noSuchPoint(point: number): SplitError {
  return new SplitError('no-such-point', `there is no operating point ${point}`);
}

function among({ among }: Exclude<Goal, { kind: 'fixed' }>) {
  if (among === undefined) return {};
  if (!AMONG.includes(among)) throw wrong('among', 'all, device, edge or split', among, 'goal-invalid');
  return { among };
}

function checkSignal(signal: unknown): void {
  if (signal !== undefined && kindOf(signal) !== 'AbortSignal') throw wrong('signal', 'an AbortSignal', signal);
}

function checkedNumber(value: number, what: string): number {
  if (!Number.isFinite(value)) throw wrong(what, 'a finite number', value, 'goal-invalid');
  return value;
}

/** Throws unless the value is an object. */
export function checkObject(value: unknown, what: string, code: ErrorCode = 'argument-invalid'): void {
  if (typeof value !== 'object' || value === null) throw wrong(what, 'an object', value, code);
}

function wrong(what: string, expected: string, got: unknown, code: ErrorCode = 'argument-invalid'): SplitError {
  return new SplitError(code, `${what} must be ${expected}, not ${shown(got)}`);
}

/** A value, short. */
export function shown(value: unknown): string {
  if (typeof value === 'string') return `'${value.slice(0, 40)}'`;
  return typeof value === 'object' && value !== null ? `${kindOf(value)}` : String(value);
}
