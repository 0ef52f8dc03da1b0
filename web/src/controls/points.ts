import type { OperatingPoint, Series } from 'split-inference';

import { html } from '../dom.js';
import { bytes, placeOf } from '../words.js';

/** Fills the choice of operating points, grouped by split point; the first option is left as it is. */
export function fillPoints(select: HTMLSelectElement, { points }: Series): void {
  const splits = [...new Set(points.map((it) => it.split))];
  const groups = splits.map((split) => points.filter((it) => it.split === split));
  const made = groups.map((group) => html('optgroup', { label: heading(group) }, ...group.map(option)));
  select.replaceChildren(...[...select.children].slice(0, 1), ...made);
}

function heading([first]: OperatingPoint[]): string {
  const place = first && placeOf(first);
  if (place === 'edge') return 'Everything on the edge worker';
  return place === 'device' ? 'Everything on this device' : `Split after ${first?.split}`;
}

function option(point: OperatingPoint): HTMLOptionElement {
  const { index, codec, variant, accuracy, meanMessageBytes } = point;
  const cost = placeOf(point) === 'device' ? 'nothing sent' : `${codec}, ${bytes(meanMessageBytes)}`;
  return html('option', { value: `${index}` }, `${accuracy.toFixed(1)} %, ${cost}, variant ${variant}`);
}
