import { SplitError } from './errors.js';
import type { LinkThrottle, Throttle } from './types.js';

/** A device that is slower still answers no frame in a time that anyone waits for. */
const SLOWEST_DEVICE = 100;
/** An edge worker that is silent for five seconds counts as gone. */
const LONGEST_ROUND_TRIP_MS = 4000;
/** In the second that is left of them, a probe of the link takes 1.4 kB. */
const SLOWEST_BYTES_PER_SECOND = 2000;

/** A throttle that makes sense, without what else the object may hold; throws otherwise. */
export function checkedThrottle({ link, device }: Throttle): Throttle {
  if (device !== undefined && !(device >= 1 && device <= SLOWEST_DEVICE)) {
    throw invalid(`device must be from 1 to ${SLOWEST_DEVICE}, not ${device}`);
  }
  return { ...(link && { link: checkedLink(link) }), ...(device !== undefined && { device }) };
}

function checkedLink({ bytesPerSecond, roundTripMs }: LinkThrottle): LinkThrottle {
  if (!(bytesPerSecond >= SLOWEST_BYTES_PER_SECOND && bytesPerSecond < Number.POSITIVE_INFINITY)) {
    const why = 'a slower link would count as lost';
    throw invalid(`link.bytesPerSecond must be at least ${SLOWEST_BYTES_PER_SECOND}, not ${bytesPerSecond}: ${why}`);
  }
  if (!(roundTripMs >= 0 && roundTripMs <= LONGEST_ROUND_TRIP_MS)) {
    throw invalid(`link.roundTripMs must be from 0 to ${LONGEST_ROUND_TRIP_MS}, not ${roundTripMs}`);
  }
  return { bytesPerSecond, roundTripMs };
}

function invalid(why: string): SplitError {
  return new SplitError('throttle-invalid', `this is no throttle: ${why}`);
}
