import type { ConnectionState, OperatingPoint, Selection, Series } from 'split-inference';

/** Holds figure and unit on one line. */
const SPACE = '\u00a0';

/** Image file formats, as people write them. */
const FORMATS: Record<string, string> = { 'image/webp': 'WebP', 'image/jpeg': 'JPEG' };

/** A time in milliseconds, with as many digits as are worth reading. */
export function milliseconds(value: number): string {
  return value.toFixed(value < 100 ? 1 : 0);
}

/** A number of bytes. */
export function bytes(value: number): string {
  if (value < 1000) return `${Math.round(value)}${SPACE}bytes`;
  return value < 1e6 ? `${(value / 1000).toFixed(1)}${SPACE}kB` : `${(value / 1e6).toFixed(1)}${SPACE}MB`;
}

/** Whether an operating point splits the network at all, and if not, where all of it runs. */
export function placeOf({ split }: Pick<OperatingPoint, 'split'>): 'device' | 'edge' | 'both' {
  if (split === 'output') return 'device';
  return split === 'input' ? 'edge' : 'both';
}

/** Where the network is cut. */
export function cutOf(point: Pick<OperatingPoint, 'split'>): string {
  const place = placeOf(point);
  if (place === 'both') return `split after ${point.split}`;
  return place === 'device' ? 'everything on this device' : 'everything on the edge worker';
}

/** What crosses the link. */
export function codecOf({ codec, image, features }: OperatingPoint): string {
  if (image) return `the picture as ${FORMATS[image.type] ?? image.type} of quality ${Math.round(100 * image.quality)}`;
  if (codec === 'none') return 'nothing is sent';
  return `${codec} features, ${features.join(' × ')}`;
}

/** An operating point in a sentence. */
export function describe(point: OperatingPoint, series: Series): string {
  const cut = cutOf(point);
  const images = `${series.measuredImages.toLocaleString('en')} images of ${series.measuredOn}`;
  const accuracy = `${percent(point.accuracy)} right on ${images}, ${percent(series.unprunedAccuracy)} before pruning`;
  return `Variant ${point.variant}, ${cut}; ${codecOf(point)}. ${accuracy}.`;
}

/** An operating point in a few words. */
export function nameOf(point: OperatingPoint): string {
  return placeOf(point) === 'both' ? `${point.split}, ${point.codec}, variant ${point.variant}` : cutOf(point);
}

/** Why an operating point is in use. */
export function reason(selection: Selection, series: Series, state: ConnectionState): string {
  return [why(selection, state), expectation(selection), rival(selection, series), link(selection, state)]
    .filter((it) => it !== '')
    .join(' ');
}

function why({ automatic, meets, kept, predicted }: Selection, state: ConnectionState): string {
  if (!automatic) return 'Chosen by hand.';
  if (state !== 'connected') return 'Without a connection everything runs on this device.';
  if (!predicted) return 'In use until the link is measured and the parts of the network are here.';
  if (!meets) return 'No operating point meets the goal: this one comes nearest to it.';
  return kept ? 'Kept: the best one now is better by too little to change for.' : 'Meets the goal best.';
}

function expectation({ predicted }: Selection): string {
  if (!predicted) return '';
  const { device, transmission, roundTrip, edge, download } = predicted;
  const parts: [string, number][] = [
    ['device', device],
    ['transmission', transmission],
    ['round trip', roundTrip],
    ['edge', edge],
    ['download', download],
  ];
  const terms = parts.filter((it) => it[1] > 0).map(([name, value]) => `${name} ${milliseconds(value)}`);
  return terms.length > 1
    ? `Expected: ${time(predicted.total)} (${terms.join(' + ')}).`
    : `Expected: ${time(predicted.total)}.`;
}

function rival({ runnerUp }: Selection, series: Series): string {
  const point = runnerUp && series.points[runnerUp.point];
  if (!point) return '';
  return `Next best: ${nameOf(point)}, ${time(runnerUp.predicted.total)} at ${percent(point.accuracy)}.`;
}

function link(selection: Selection, state: ConnectionState): string {
  if (!selection.link || state !== 'connected') return '';
  const { rateBytesPerSecond, roundTripMs } = selection.link;
  return `Link: ${bytes(rateBytesPerSecond)} per second, round trip ${time(roundTripMs)}.`;
}

/** A time with its unit. */
function time(value: number): string {
  return `${milliseconds(value)}${SPACE}ms`;
}

/** A percentage. */
function percent(value: number): string {
  return `${value.toFixed(1)}${SPACE}%`;
}
