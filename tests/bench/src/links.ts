/** A link between device and edge, the same in both directions. */
export interface Link {
  name: string;
  kilobitsPerSecond: number;
  roundTripMs: number;
}

/** As fast as the machine: for loading what is not measured. */
export const UNLIMITED: Link = { name: 'localhost', kilobitsPerSecond: 0, roundTripMs: 0 };

export const POOR: Link = { name: 'poor', kilobitsPerSecond: 200, roundTripMs: 200 };
export const THREE_G: Link = { name: '3G', kilobitsPerSecond: 1100, roundTripMs: 100 };
export const FOUR_G: Link = { name: '4G', kilobitsPerSecond: 5850, roundTripMs: 50 };
export const WIFI: Link = { name: 'Wi-Fi', kilobitsPerSecond: 18_880, roundTripMs: 10 };

/** Uplinks of the paper, with round trips that are usual for them, and a poor link. */
export const LINKS = [POOR, THREE_G, FOUR_G, WIFI];

/** Time to put a message on the link, in milliseconds. */
export function transmissionMs(link: Link, bytes: number): number {
  return link.kilobitsPerSecond === 0 ? 0 : (bytes * 8) / link.kilobitsPerSecond;
}
