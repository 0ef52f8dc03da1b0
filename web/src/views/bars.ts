import uPlot from 'uplot';

import { LENGTH } from '../history.js';
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

/** A chart of bars that stand on the axis, one for each of the last frames. */
export function barChart(place: HTMLElement, { height, colours, top, marks }: BarChart): uPlot {
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
      y: { range: (_, __, most) => [0, HEADROOM * top(most)] },
    },
    axes: [{ show: false }, valueAxis()],
    series: [{}, ...series],
    hooks: { draw: [(chart) => drawMarks(chart, marks())] },
  };
  const chart = new uPlot(options, [[], ...colours.map(() => [])], place);
  new ResizeObserver(() => chart.setSize({ width: place.clientWidth, height })).observe(place);
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => chart.redraw(false));
  return chart;
}

function valueAxis(): uPlot.Axis {
  return {
    stroke: () => colour('--muted'),
    font: FONT,
    size: 44,
    gap: 6,
    space: 36,
    grid: { stroke: () => colour('--line'), width: 1 },
    ticks: { show: false },
  };
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
