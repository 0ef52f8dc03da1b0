import { printTable, type Report } from '../report.js';
import { least } from '../statistics.js';
import type { Bench } from './bench.js';
import { type Measurement, SIDES, type Side } from './measurement.js';

/** One link and one class of device: what each side did there. */
export interface Cell {
  factor: number;
  link: string;
  /** By the latency a user feels. */
  felt: Partial<Record<Side, Measurement>>;
  /** By the paper's. */
  paper: Partial<Record<Side, Measurement>>;
}

/** The paper's claim, what ours aims at beyond it, and what choosing freely may lose. */
const PAPER_RATIO = 4.81;
const BEST_RATIO = 8;
const FREE_RATIO = 1.05;

/** Cells with the best measurement of every side, once for each kind of latency. */
export function cellsOf(links: { name: string }[], factors: number[], measurements: Measurement[]): Cell[] {
  const best = (factor: number, link: string, cost: (it: Measurement) => number) => {
    const here = measurements.filter((it) => it.factor === factor && it.link === link);
    const sides = Object.keys(SIDES) as Side[];
    const found = sides.map(
      (side) =>
        [
          side,
          least(
            here.filter((it) => it.side === side),
            cost,
          ),
        ] as const,
    );
    return Object.fromEntries(found.filter(([, it]) => it !== undefined)) as Partial<Record<Side, Measurement>>;
  };
  return factors.flatMap((factor) =>
    links.map(({ name: link }) => ({
      factor,
      link,
      felt: best(factor, link, (it) => it.totalMs),
      paper: best(factor, link, (it) => it.paperMs),
    })),
  );
}

/** (a)/(b) by the paper's latency. */
export function paperRatio({ paper: { a, b } }: Cell): number {
  return (a?.paperMs ?? Number.NaN) / (b?.paperMs ?? Number.NaN);
}

/** (a)/(b) by the latency a user feels. */
export function feltRatio({ felt: { a, b } }: Cell): number {
  return (a?.totalMs ?? Number.NaN) / (b?.totalMs ?? Number.NaN);
}

/** (e) against the best of the sides that it may choose from. */
export function freeRatio({ felt: { b, c, d, e } }: Cell): number {
  const others = [b, c, d].map((it) => it?.totalMs ?? Number.POSITIVE_INFINITY);
  return (e?.totalMs ?? Number.NaN) / Math.min(...others);
}

/** Prints every cell, and where splitting does not pay. */
export function printCells({ files, settings, notes }: Bench, measurements: Measurement[]): void {
  const cells = cellsOf(settings.links, settings.factors, measurements);
  const time = (it: Measurement | undefined) => (it ? it.totalMs.toFixed(1) : '–');
  const pair = (it: Measurement | undefined) => (it ? `${it.totalMs.toFixed(1)} / ${it.total95Ms.toFixed(1)}` : '–');
  const how = settings.modelled ? 'modelled by multiplying' : 'slowed down on one core, the rest on another';
  console.log(
    `\naccuracies: ${files.series.measuredOn}; every side but (a) at least ${files.series.floor.toFixed(2)} %`,
  );
  console.log(`devices: ${how}; median / 95th percentile in ms, from frame to label\n`);
  for (const [side, name] of Object.entries(SIDES)) console.log(`  (${side}) ${name}`);
  console.log();
  printTable(
    ['device, link', '(a)', '(b)', '(c)', '(d)', '(e)', '(e) is', 'a/b paper', 'a/b full', 'e/best'],
    cells.map((cell) => {
      const { a, b, c, d, e } = cell.felt;
      return [
        `×${cell.factor} ${cell.link}`,
        ...[a, b, c, d, e].map(pair),
        e?.split ?? '–',
        ...[paperRatio(cell), feltRatio(cell), freeRatio(cell)].map((it) => it.toFixed(2)),
      ];
    }),
  );
  console.log();
  for (const cell of cells) printVerdict(cell, time);
  printParts(cells);
  if (notes.length > 0) console.log();
}

/** Bytes, accuracy and stages of what was best in each cell. */
function printParts(cells: Cell[]): void {
  console.log('\nparts, medians in ms:');
  const rows = cells.flatMap((cell) => Object.values(cell.felt));
  printTable(
    [
      'side',
      'split',
      'codec',
      'accuracy',
      'bytes',
      'capture',
      'head',
      'encode',
      'network',
      'queue',
      'decode',
      'tail',
      'total',
    ],
    rows.map((it) => {
      const { capture, normalize, head, encode, network, queue, decode, tail } = it.stages;
      const times = [capture + normalize, head, encode, network, queue, decode, tail, it.totalMs];
      return [
        `×${it.factor} ${it.link} (${it.side})`,
        it.split,
        it.codec,
        it.accuracy.toFixed(2),
        it.messageBytes.toFixed(0),
        ...times.map((time) => time.toFixed(2)),
      ];
    }),
  );
}

function printVerdict({ factor, link, felt: { b, c, d } }: Cell, time: (it: Measurement | undefined) => string): void {
  const whole = least(
    [c, d].filter((it) => it !== undefined),
    (it) => it.totalMs,
  );
  if (!b || !whole) return;
  const pays = b.totalMs < whole.totalMs;
  const against = whole.side === 'c' ? 'the device alone' : 'the edge alone';
  const verdict = pays ? 'splitting pays' : 'splitting does not pay';
  console.log(`  ×${factor} ${link}: ${verdict}: ${time(b)} ms at ${b.split}, ${time(whole)} ms by ${against}`);
}

/** Every goal, cell by cell. */
export function reportGoals(report: Report, { settings }: Bench, measurements: Measurement[]): void {
  const cells = cellsOf(settings.links, settings.factors, measurements);
  const slow = cells.filter((it) => it.factor > 1);
  const name = (cell: Cell) => `×${cell.factor}, ${cell.link}`;
  console.log();
  for (const cell of slow) report.atLeast(`(a)/(b), paper's latency, ${name(cell)}`, paperRatio(cell), PAPER_RATIO);
  report.atLeast("(a)/(b), paper's latency, best cell", Math.max(...slow.map(paperRatio)), BEST_RATIO);
  for (const cell of cells.filter((it) => it.felt.e)) {
    report.atMost(`(e) against the least of (b), (c), (d), ${name(cell)}`, freeRatio(cell), FREE_RATIO);
  }
}
