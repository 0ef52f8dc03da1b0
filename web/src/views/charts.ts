import uPlot from 'uplot';
import 'uplot/dist/uPlot.min.css';

import { element } from '../dom.js';
import { type History, LENGTH } from '../history.js';
import { STAGES } from '../stages.js';
import { bytes, milliseconds } from '../words.js';
import { colour } from './colours.js';

const HEIGHT = 200;
const LOW = 120;
const FONT = '12px system-ui, sans-serif';

/** Charts of the last frames: latency, stacked by stage, and bytes. */
export class ChartsView {
  readonly #timeline = element('timeline', HTMLElement);
  readonly #sizes = element('sizes', HTMLElement);
  /** The first to be drawn is the top of the stack: what is below is drawn over it. */
  readonly #stacked = barChart(this.#timeline, HEIGHT, STAGES.map(({ stage }) => `--stage-${stage}`).reverse());
  readonly #bars = barChart(this.#sizes, LOW, ['--link']);

  /** Draws the last frames. */
  show(history: History): void {
    const { results } = history;
    // The newest frame is always at the right edge.
    const places = results.map((_, at) => LENGTH - results.length + at);
    this.#stacked.setData([places, ...history.stacked().reverse()]);
    this.#bars.setData([places, results.map((it) => it.messageBytes)]);
    this.#describe(history);
  }

  #describe(history: History): void {
    const last = history.results.at(-1);
    if (!last) return;
    const latency = `median ${milliseconds(history.median('total'))} ms, last ${milliseconds(last.timings.total)} ms`;
    this.#timeline.ariaLabel = `Latency of the last frames, stacked by stage: ${latency}`;
    this.#sizes.ariaLabel = `Bytes sent for each of the last frames: ${bytes(last.messageBytes)} for the last one`;
  }
}

/** A chart of bars that stand on the axis, in these colours. */
function barChart(place: HTMLElement, height: number, colours: string[]): uPlot {
  const bars = uPlot.paths.bars?.({ size: [1, Number.POSITIVE_INFINITY], gap: 0 });
  const series = colours.map((name): uPlot.Series => {
    return { fill: () => colour(name), width: 0, points: { show: false }, ...(bars && { paths: bars }) };
  });
  const options: uPlot.Options = {
    width: place.clientWidth,
    height,
    padding: [8, 0, 8, 0],
    legend: { show: false },
    cursor: { show: false },
    scales: {
      x: { time: false, range: [-0.5, LENGTH - 0.5] },
      y: { range: (_, __, most) => [0, most > 0 ? most * 1.08 : 1] },
    },
    axes: [{ show: false }, valueAxis()],
    series: [{}, ...series],
  };
  const chart = new uPlot(options, [[], ...colours.map(() => [])], place);
  const fit = new ResizeObserver(() => chart.setSize({ width: place.clientWidth, height }));
  fit.observe(place);
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => chart.redraw(false));
  return chart;
}

function valueAxis(): uPlot.Axis {
  const line = { stroke: () => colour('--line'), width: 1 };
  return {
    stroke: () => colour('--muted'),
    font: FONT,
    size: 44,
    gap: 6,
    space: 36,
    grid: line,
    ticks: { show: false },
  };
}
