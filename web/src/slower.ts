import type { LinkThrottle, Throttle } from 'split-inference';

import type { Mode } from './mode.js';

/** A link to choose from; none of its own for the real one. */
interface Link {
  name: string;
  throttle?: LinkThrottle;
}

/** The real link, three uplinks of the paper with round trips that are usual for them, and a poor one. */
export const LINKS: readonly Link[] = [
  { name: 'none' },
  { name: 'Wi-Fi', throttle: { bytesPerSecond: 2_360_000, roundTripMs: 10 } },
  { name: '4G', throttle: { bytesPerSecond: 731_250, roundTripMs: 50 } },
  { name: '3G', throttle: { bytesPerSecond: 137_500, roundTripMs: 100 } },
  { name: 'poor', throttle: { bytesPerSecond: 25_000, roundTripMs: 200 } },
];

/** Slowdowns of the device to choose from. */
export const DEVICES: readonly number[] = [1, 5, 10, 40];

/** Devices and links that people know, to compare: a phone computes about five times as slowly as a laptop, an old one ten times, a camera with a small processor forty times. */
export const PRESETS: readonly { name: string; link: string; device: number; mode?: Mode }[] = [
  { name: 'This device and link', link: 'none', device: 1 },
  { name: 'Phone on 4G', link: '4G', device: 5 },
  { name: 'Old phone on Wi-Fi', link: 'Wi-Fi', device: 10 },
  { name: 'Small camera on Wi-Fi', link: 'Wi-Fi', device: 40 },
  { name: 'Phone, poor link', link: 'poor', device: 5 },
  { name: 'Phone on 3G, split only', link: '3G', device: 5, mode: 'split' },
];

/** What is made slower than it is, on purpose. */
export interface Slower {
  /** Place among `LINKS`. */
  link: number;
  /** How many times as long everything takes on the device. */
  device: number;
}

/** What the client is to be told. */
export function throttleOf({ link, device }: Slower): Throttle {
  const throttle = LINKS[link]?.throttle;
  return { ...(throttle && { link: throttle }), ...(device > 1 && { device }) };
}

/** What is made slower, for people; empty if nothing is. */
export function wordsOf({ link, device }: Slower): string {
  const parts = [link > 0 ? `${LINKS[link]?.name} link` : '', device > 1 ? `device ×${device}` : ''];
  const slower = parts.filter((it) => it !== '').join(', ');
  return slower && `Slower on purpose: ${slower}`;
}
