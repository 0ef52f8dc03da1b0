import uPlot from 'uplot';

import { LENGTH } from '../history.js';
import { number } from '../words.js';
import { colour } from './colours.js';

const FONT = '12px system-ui, sans-serif';
/** Room above the highest bar. */
const HEADROOM = 1.08;

/** What a chart of bars is like. */
export interface BarChart {
  height: number;
  /** Of each series, as variables of the style sheet. */
  colours: string[];
  /** Where the scale ends, for this largest value. */
  top: (most: number) => number;
  /** Frames before which a line is drawn. */
  marks: () => number[];
}

/** A chart of bars, one for each of the last frames: of each series from its value down to that of the next, of the last one to the axis. */
export function barChart(place: HTMLElement, { height, colours, top, marks }: BarChart): uPlot {
  const series = colours.map((): uPlot.Series => ({ paths: () => null, points: { show: false } }));
  const options: uPlot.Options = {
    width: place.clientWidth,
    height,
    padding: [8, 0, 8, 0],
    legend: { show: false },
    cursor: { show: false },
    scales: {
      x: { time: false, range: [-0.5, LENGTH - 0.5] },
      y: { range: (_, __, most) => [0, HEADROOM * top(most)] },
    },
    axes: [{ show: false }, valueAxis()],
    series: [{}, ...series],
    hooks: {
      draw: [
        (chart) => {
          drawBars(chart, colours);
          drawMarks(chart, marks());
        },
      ],
    },
  };
  const chart = new uPlot(options, [[], ...colours.map(() => [])], place);
  new ResizeObserver(() => chart.setSize({ width: place.clientWidth, height })).observe(place);
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => chart.redraw(false));
  return chart;
}

function valueAxis(): uPlot.Axis {
  return {
    values: (_, values) => values.map((it) => (it < 10_000 ? number(it) : `${number(it / 1000)} k`)),
    stroke: () => colour('--muted'),
    font: FONT,
    size: 44,
    gap: 6,
    space: 36,
    grid: { stroke: () => colour('--line'), width: 1 },
    ticks: { show: false },
  };
}

/** Rectangles on whole pixels: a browser without graphics processor fills them several times faster than one path with all bars in it. */
function drawBars({ ctx, bbox, data, valToPos }: uPlot, colours: string[]): void {
  const [places, ...series] = data;
  const column = (place: number) => Math.round(valToPos(place - 0.5, 'x', true));
  const row = (value: number | null | undefined) => Math.max(bbox.top, Math.round(valToPos(value ?? 0, 'y', true)));
  ctx.save();
  colours.forEach((name, at) => {
    ctx.fillStyle = colour(name);
    for (const [frame, place] of Array.from(places).entries()) {
      const [left, top] = [column(place), row(series[at]?.[frame])];
      ctx.fillRect(left, top, column(place + 1) - left, row(series[at + 1]?.[frame]) - top);
    }
  });
  ctx.restore();
}

function drawMarks({ ctx, bbox, valToPos }: uPlot, places: number[]): void {
  ctx.save();
  ctx.strokeStyle = colour('--text');
  ctx.lineWidth = devicePixelRatio;
  ctx.setLineDash([3 * devicePixelRatio, 3 * devicePixelRatio]);
  for (const place of places) {
    const x = Math.round(valToPos(place - 0.5, 'x', true));
    ctx.beginPath();
    ctx.moveTo(x, bbox.top);
    ctx.lineTo(x, bbox.top + bbox.height);
    ctx.stroke();
  }
  ctx.restore();
}
