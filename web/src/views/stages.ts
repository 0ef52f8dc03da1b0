import type { Result } from 'split-inference';

import { element, html, setText } from '../dom.js';
import type { History } from '../history.js';
import { STAGES, type Stage } from '../stages.js';

/** The times of the last frame, stage by stage; also what the colours of the timeline stand for. */
export class StagesView {
  readonly #rows: { stage: Stage | 'total'; last: HTMLElement; median: HTMLElement }[] = [];

  constructor() {
    const body = element('stages', HTMLTableElement).tBodies[0];
    for (const { stage, place } of STAGES) body?.append(this.#row(stage, place));
    body?.append(this.#row('total', 'all'));
  }

  /** Shows a frame's times, and their middles. */
  show({ timings }: Result, history: History): void {
    for (const { stage, last, median } of this.#rows) {
      setText(last, time(timings[stage]));
      setText(median, time(history.median(stage)));
    }
  }

  #row(stage: Stage | 'total', place: string): HTMLTableRowElement {
    const last = html('td', {}, '–');
    const median = html('td', {}, '–');
    this.#rows.push({ stage, last, median });
    const name = html('th', { scope: 'row' }, html('i', { className: `swatch swatch-${stage}` }), stage);
    if (place !== 'all') name.append(html('span', { className: 'place' }, place));
    return html('tr', { className: `stage-${stage}` }, name, last, median);
  }
}

function time(milliseconds: number): string {
  return milliseconds.toFixed(milliseconds < 10 ? 2 : 1);
}
