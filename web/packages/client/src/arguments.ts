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

/** The name of a value's class, which is right for objects of other windows, too, and needs no class to exist in this browser. */
export function kindOf(value: unknown): string {
  return Object.prototype.toString.call(value).slice('[object '.length, -1);
}

/** Throws what is wrong with the options of `connect`; the URL is checked where it is used. */
export function checkOptions(options: ConnectOptions): void {
  checkObject(options, 'the options of connect');
  const { series, goal, token, pixels, onProgress, signal } = options;
  if (series !== undefined && typeof series !== 'string') throw wrong('series', 'a name', series);
  if (goal !== undefined) checkGoal(goal);
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

/** Throws what is wrong with a goal; whether the series has a fixed point is known only with the series. */
export function checkGoal(goal: Goal): void {
  checkObject(goal, 'the goal', 'goal-invalid');
  switch (goal.kind) {
    case 'lowestLatency':
      checkNumber(goal.atLeast, 'atLeast, an accuracy in percent,');
      break;
    case 'highestAccuracy':
      checkNumber(goal.atMost, 'atMost, a latency in milliseconds,');
      break;
    case 'fixed':
      if (!Number.isInteger(goal.point)) throw wrong('point', 'a whole number', goal.point, 'goal-invalid');
      return;
    default: {
      const { kind } = goal as { kind: unknown };
      throw wrong('kind', 'lowestLatency, highestAccuracy or fixed', kind, 'goal-invalid');
    }
  }
  if (goal.among !== undefined && !AMONG.includes(goal.among)) {
    throw wrong('among', 'all, device, edge or split', goal.among, 'goal-invalid');
  }
}

function checkSignal(signal: unknown): void {
  if (signal !== undefined && kindOf(signal) !== 'AbortSignal') throw wrong('signal', 'an AbortSignal', signal);
}

function checkNumber(value: unknown, what: string): void {
  if (!Number.isFinite(value)) throw wrong(what, 'a finite number', value, 'goal-invalid');
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
