import type { Series } from 'split-inference';

import { html } from './dom.js';
import type { Measurement } from './session.js';
import { STAGES } from './stages.js';

/** Digits of a time: microseconds. */
const DIGITS = 3;

/** The measurements as a table, one row for a frame. */
export function toCsv(measurements: Measurement[]): string {
  const stages = [...STAGES.map((it) => it.stage), 'total'] as const;
  const header = ['frame', 'time', 'label', 'probability', 'point', 'variant', 'split', 'codec', 'message_bytes'];
  const throttles = ['link_throttle', 'device_throttle'];
  const rows = measurements.map((it) => {
    const { frame, time, label, probability, point, variant, split, codec, messageBytes } = it;
    const { linkThrottle, deviceThrottle, timings } = it;
    const times = stages.map((stage) => timings[stage].toFixed(DIGITS));
    const result = [frame, time, label, probability.toFixed(6), point, variant, split, codec, messageBytes];
    return [...result, linkThrottle, deviceThrottle, ...times];
  });
  const lines = [[...header, ...throttles, ...stages.map((it) => `${it}_ms`)], ...rows];
  return lines.map((cells) => `${cells.map((it) => quoted(`${it}`)).join(',')}\r\n`).join('');
}

/** The measurements with the series that they belong to. */
export function toJson(measurements: Measurement[], { series, digest, measuredOn, points }: Series): string {
  const used = new Set(measurements.map((it) => it.point));
  const operatingPoints = points.filter((it) => used.has(it.index));
  const about = { series, digest, measuredOn, browser: navigator.userAgent, exported: new Date().toISOString() };
  return JSON.stringify({ ...about, operatingPoints, measurements }, null, 1);
}

/** Hands a file to the browser's downloads. */
export function save(name: string, type: string, text: string): void {
  const url = URL.createObjectURL(new Blob([text], { type }));
  html('a', { href: url, download: name }).click();
  // The download has begun once this task is over.
  setTimeout(() => URL.revokeObjectURL(url));
}

/** RFC 4180: quotes around what would be taken for more than one cell. */
function quoted(cell: string): string {
  return /[",\r\n]/.test(cell) ? `"${cell.replaceAll('"', '""')}"` : cell;
}
