import 'uplot/dist/uPlot.min.css';

import { element, sightOf } from '../dom.js';
import { type History, LENGTH } from '../history.js';
import { STAGES } from '../stages.js';
import { bytes, milliseconds } from '../words.js';
import { barChart } from './bars.js';

/** Frames that took longer than so many usual ones go beyond the chart: one would make all others flat. */
const SPIKE = 4;

/** Charts of the last frames: latency, stacked by stage, and bytes. */
export class ChartsView {
  readonly #timeline = element('timeline', HTMLElement);
  readonly #sizes = element('sizes', HTMLElement);
  readonly #isInSight: () => boolean;
  #usual = 0;
  #changes: number[] = [];
  readonly #stacked = barChart(this.#timeline, {
    height: 200,
    // The first to be drawn is the top of the stack: what is below is drawn over it.
    colours: STAGES.map(({ stage }) => `--stage-${stage}`).reverse(),
    top: (most) => Math.max(1, Math.min(most, SPIKE * this.#usual)),
    marks: () => this.#changes,
  });
  readonly #bars = barChart(this.#sizes, {
    height: 120,
    colours: ['--link'],
    top: (most) => Math.max(10, most),
    marks: () => this.#changes,
  });

  /** `appeared` is called when the charts come into sight; out of it, they are not drawn. */
  constructor(appeared: () => void) {
    const panel = element('charts', HTMLElement);
    this.#isInSight = sightOf(panel, (isInSight) => {
      panel.classList.toggle('out-of-sight', !isInSight);
      if (isInSight) appeared();
    });
  }

  /** Draws the last frames. */
  show(history: History): void {
    if (!this.#isInSight()) return;
    const { results } = history;
    // The newest frame is always at the right edge.
    const places = results.map((_, at) => LENGTH - results.length + at);
    this.#usual = history.median('total');
    this.#changes = places.filter((_, at) => at > 0 && results[at]?.point !== results[at - 1]?.point);
    this.#stacked.setData([places, ...history.stacked().reverse()]);
    this.#bars.setData([places, results.map((it) => it.messageBytes)]);
    this.#describe(history);
  }

  #describe(history: History): void {
    const last = history.results.at(-1);
    if (!last) return;
    const latency = `median ${milliseconds(this.#usual)} ms, last ${milliseconds(last.timings.total)} ms`;
    this.#timeline.ariaLabel = `Latency of the last frames, stacked by stage: ${latency}`;
    this.#sizes.ariaLabel = `Bytes sent for each of the last frames: ${bytes(last.messageBytes)} for the last one`;
  }
}
