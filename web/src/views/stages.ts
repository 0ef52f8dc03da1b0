import type { Result } from 'split-inference';

import { element, html, setText } from '../dom.js';
import type { History } from '../history.js';
import { type Share, STAGES, timeOf } from '../stages.js';

/** The times of the last frame, stage by stage; also what the colours of the timeline stand for. */
export class StagesView {
  readonly #rows: { share: Share; last: HTMLElement; median: HTMLElement }[] = [];

  constructor() {
    const body = element('stages', HTMLTableElement).tBodies[0];
    for (const { stage, place } of STAGES) body?.append(this.#row(stage, place));
    body?.append(this.#row('waiting', 'between'), this.#row('total'));
  }

  /** Shows a frame's times, and the middles of those of the last frames with the same operating point. */
  show({ timings, point }: Result, history: History): void {
    for (const { share, last, median } of this.#rows) {
      setText(last, time(timeOf(timings, share)));
      setText(median, time(history.median(share, point)));
    }
  }

  #row(share: Share, place?: string): HTMLTableRowElement {
    const last = html('td', {}, '–');
    const median = html('td', {}, '–');
    this.#rows.push({ share, last, median });
    const name = html('th', { scope: 'row' }, html('i', { className: `swatch swatch-${share}` }), share);
    if (place) name.append(html('span', { className: 'place' }, place));
    return html('tr', { className: `stage-${share}` }, name, last, median);
  }
}

function time(milliseconds: number): string {
  return milliseconds.toFixed(milliseconds < 10 ? 2 : 1);
}
