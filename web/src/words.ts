import type { ConnectionState, OperatingPoint, Selection, Series } from 'split-inference';

/** Holds figure and unit on one line. */
const SPACE = '\u00a0';

const ENGLISH = new Intl.NumberFormat('en');

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

/** A number of bytes to the last one. */
export function exactBytes(value: number): string {
  return count(Math.round(value), 'byte');
}

/** A whole number. */
export function number(value: number): string {
  return ENGLISH.format(value);
}

/** A number of things, with their name in the singular or plural. */
export function count(value: number, one: string, many = `${one}s`): string {
  return `${number(value)}${SPACE}${value === 1 ? one : many}`;
}

/** Whether an operating point splits the network at all, and if not, where all of it runs. */
export function placeOf({ split }: Pick<OperatingPoint, 'split'>): 'device' | 'edge' | 'both' {
  if (split === 'output') return 'device';
  return split === 'input' ? 'edge' : 'both';
}

/** Where the network is cut. */
export function cutOf(point: Pick<OperatingPoint, 'split'>): string {
  const place = placeOf(point);
  if (place === 'both') return `split after layer ${point.split}`;
  return place === 'device' ? 'everything on this device' : 'everything on the edge worker';
}

/** What crosses the link. */
function crossing({ codec, image, features }: OperatingPoint): string {
  if (image) return `the picture as ${FORMATS[image.type] ?? image.type} of quality ${Math.round(100 * image.quality)}`;
  if (codec === 'none') return 'nothing';
  const bits = codec.replace(/^(\d+)-bit$/, (_, bits) => `of ${count(Number(bits), 'bit')} each`);
  return `${features.join(' × ')} features ${bits}, coded`;
}

/** An operating point in sentences. */
export function describe(point: OperatingPoint, series: Series): string {
  const work = (point.headMacs + point.tailMacs) / series.unprunedMacs;
  const pruned = work < 1 ? `, pruned to ${percent(100 * work, 0)} of the computing` : '';
  const accuracy = `${percent(point.accuracy)} right on ${imagesOf(series)}, ${percent(series.unprunedAccuracy)} before pruning`;
  return `${sentence(cutOf(point))}. Sent: ${crossing(point)}. Variant ${point.variant} of the network${pruned}: ${accuracy}.`;
}

/** What accuracies were measured on; most names of data sets begin with how many images they are. */
export function imagesOf({ measuredImages, measuredOn }: Series): string {
  return /^\d/.test(measuredOn) ? measuredOn : `${count(measuredImages, 'image')} of ${measuredOn}`;
}

/** An operating point in a few words. */
export function nameOf(point: OperatingPoint): string {
  return `${cutOf(point)}, variant ${point.variant}`;
}

/** What explains a selection beside itself. */
export interface Circumstances {
  series: Series;
  state: ConnectionState;
  /** The operating point of the result that is shown. */
  shown: number;
}

/** Why an operating point is in use. */
export function reason(selection: Selection, { series, state, shown }: Circumstances): string {
  const next = series.points[selection.point];
  const change = next && selection.point !== shown ? `Changing to: ${nameOf(next)}.` : '';
  return [
    change,
    why(selection, series, state),
    expectation(selection),
    rival(selection, series),
    link(selection, state),
  ]
    .filter((it) => it !== '')
    .join(' ');
}

function why(selection: Selection, series: Series, state: ConnectionState): string {
  const { automatic, meets, kept, predicted, awaited, link } = selection;
  const next = awaited === null ? undefined : series.points[awaited];
  if (next) return `In use until this device has its part of the network for: ${nameOf(next)}.`;
  if (!automatic && meets) return 'Chosen by hand.';
  if (state !== 'connected') return 'Without a connection everything runs on this device.';
  if (predicted && !link) return 'Everything runs on this device until the edge worker has answered.';
  if (!automatic) return 'In use while the one chosen by hand cannot be.';
  if (!predicted) return 'In use until the link is measured and the parts of the network are here.';
  if (!meets) return 'No operating point meets the goal: this one comes nearest to it.';
  return kept ? 'Kept: the best one now is better by too little to change for.' : 'Meets the goal best.';
}

function expectation({ predicted }: Selection): string {
  if (!predicted) return '';
  const { capture, device, transmission, roundTrip, edge, download } = predicted;
  const parts: [string, number][] = [
    ['picture', capture],
    ['device', device],
    ['transmission', transmission],
    ['round trip', roundTrip],
    ['edge', edge],
    ['download', download],
  ];
  const terms = parts.filter((it) => it[1] > 0).map(([name, value]) => `${name} ${milliseconds(value)}`);
  const total = time(predicted.total);
  return terms.length > 1 ? `Expected: ${total} (${terms.join(' + ')}).` : `Expected: ${total}.`;
}

function rival({ point: chosen, predicted, runnerUp }: Selection, series: Series): string {
  const point = runnerUp && series.points[runnerUp.point];
  if (!point) return '';
  const isFaster = predicted !== null && runnerUp.predicted.total < predicted.total;
  const isWorse = point.accuracy < (series.points[chosen]?.accuracy ?? 0);
  const but = isFaster && isWorse ? ', faster but less often right' : '';
  return `Next best: ${nameOf(point)}, ${time(runnerUp.predicted.total)} at ${percent(point.accuracy)}${but}.`;
}

function link(selection: Selection, state: ConnectionState): string {
  if (!selection.link || state !== 'connected') return '';
  const { rateBytesPerSecond, roundTripMs } = selection.link;
  const rate = rateBytesPerSecond === null ? '' : `${bytes(rateBytesPerSecond)} per second, `;
  return `Link: ${rate}round trip ${time(roundTripMs)}.`;
}

/** A time with its unit. */
function time(value: number): string {
  return `${milliseconds(value)}${SPACE}ms`;
}

/** A percentage. */
export function percent(value: number, digits = 1): string {
  return `${value.toFixed(digits)}${SPACE}%`;
}

function sentence(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
