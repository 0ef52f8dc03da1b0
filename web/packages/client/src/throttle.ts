import { checkObject, shown } from './arguments.js';
import { SplitError } from './errors.js';
import type { LinkThrottle, Throttle } from './types.js';

/** A device that is slower still answers no frame in a time that anyone waits for. */
const SLOWEST_DEVICE = 100;
/** An edge worker that is silent for five seconds counts as gone. */
const LONGEST_ROUND_TRIP_MS = 4000;
/** In the second that is left of them, a probe of the link takes 1.4 kB. */
const SLOWEST_BYTES_PER_SECOND = 2000;

/** A throttle that makes sense, without what else the object may hold; throws otherwise. */
export function checkedThrottle(throttle: Throttle): Throttle {
  checkObject(throttle, 'the throttle', 'throttle-invalid');
  const { link, device } = throttle;
  if (device !== undefined && !isWithin(device, 1, SLOWEST_DEVICE)) {
    throw invalid(`device must be from 1 to ${SLOWEST_DEVICE}, not ${shown(device)}`);
  }
  return { ...(link !== undefined && { link: checkedLink(link) }), ...(device !== undefined && { device }) };
}

function checkedLink(link: LinkThrottle): LinkThrottle {
  checkObject(link, 'link', 'throttle-invalid');
  const { bytesPerSecond, roundTripMs } = link;
  if (!isWithin(bytesPerSecond, SLOWEST_BYTES_PER_SECOND, Number.MAX_VALUE)) {
    const why = 'a slower link would count as lost';
    throw invalid(
      `link.bytesPerSecond must be at least ${SLOWEST_BYTES_PER_SECOND}, not ${shown(bytesPerSecond)}: ${why}`,
    );
  }
  if (!isWithin(roundTripMs, 0, LONGEST_ROUND_TRIP_MS)) {
    throw invalid(`link.roundTripMs must be from 0 to ${LONGEST_ROUND_TRIP_MS}, not ${shown(roundTripMs)}`);
  }
  return { bytesPerSecond, roundTripMs };
}

function isWithin(value: unknown, least: number, most: number): boolean {
  return typeof value === 'number' && value >= least && value <= most;
}

function invalid(why: string): SplitError {
  return new SplitError('throttle-invalid', `this is no throttle: ${why}`);
}
