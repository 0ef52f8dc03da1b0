import type { Link } from '../links.js';
import { printTable, type Report } from '../report.js';
import { least } from '../statistics.js';
import type { Bench } from './bench.js';
import { type Measurement, paperMs, SIDES, type Side } from './measurement.js';

/** One link and one class of device: what each side did there. */
export interface Cell {
  factor: number;
  link: Link;
  sides: Partial<Record<Side, Measurement>>;
}

/** What splitting has to beat, what choosing freely may lose, and in how many cells splitting is to pay. */
const SPLIT_RATIO = 0.8;
const SPLIT_CELLS = 5;
const FREE_RATIO = 1.05;
/** The paper's claim. */
const PAPER_RATIO = 4.81;
/** For the data of an hour. */
const FRAMES_AN_HOUR = 10 * 3600;

/** Every cell; of the unpruned network the split point that is best there. */
export function cellsOf(links: Link[], factors: number[], measurements: Measurement[]): Cell[] {
  return factors.flatMap((factor) => {
    const here = measurements.filter((it) => it.factor === factor);
    const partitioned = here.filter((it) => it.side === 'p');
    return links.map((link) => {
      const sides = Object.fromEntries(here.filter((it) => it.link === link.name).map((it) => [it.side, it]));
      const p = least(partitioned, (it) => paperMs(it, link));
      return { factor, link, sides: { ...sides, ...(p && { p }) } };
    });
  });
}

/** (e) against the best of the others. */
export function freeRatio({ sides: { e, ...others } }: Cell): number {
  return timeOf(e) / bestOf([others.a, others.b, others.c, others.d]);
}

/** (e) against the best side that does not split; none where it does not split either. */
export function splitRatio({ sides: { a, b, c, e } }: Cell): number | undefined {
  const splits = e && e.split !== 'input' && e.split !== 'output';
  return splits ? timeOf(e) / bestOf([a, b, c]) : undefined;
}

/** (a)/(e), as a user feels it. */
export function peerRatio({ sides: { a, e } }: Cell): number {
  return timeOf(a) / timeOf(e);
}

/** The unpruned network, split, against (d), by the paper's latency; none where it was not measured. */
export function paperRatio({ link, sides: { p, d } }: Cell): number | undefined {
  return p && d ? paperMs(p, link) / paperMs(d, link) : undefined;
}

/** Prints every cell. */
export function printCells({ files, settings }: Bench, measurements: Measurement[]): void {
  const cells = cellsOf(settings.links, settings.factors, measurements);
  const pair = (it: Measurement | undefined) => (it ? `${it.totalMs.toFixed(1)} / ${it.total95Ms.toFixed(1)}` : '–');
  const ratio = (it: number | undefined) => it?.toFixed(2) ?? '–';
  const how = settings.modelled
    ? 'modelled by multiplying'
    : 'computing slowed down on one core, drawing and the rest on another';
  console.log(
    `\naccuracies: ${files.series.measuredOn}; every side at least ${files.series.floor.toFixed(2)} %, where it can`,
  );
  console.log(`devices: ${how}; median / 95th percentile in ms, from frame to label\n`);
  for (const [side, name] of Object.entries(SIDES)) console.log(`  (${side}) ${name}`);
  console.log();
  printTable(
    ['device, link', '(a)', '(b)', '(c)', '(d)', '(e)', '(e) is', 'e/best', 'split/best', 'a/e', 'paper'],
    cells.map((cell) => {
      const { a, b, c, d, e } = cell.sides;
      return [
        nameOf(cell),
        ...[a, b, c, d, e].map(pair),
        e?.split ?? '–',
        ...[freeRatio(cell), splitRatio(cell), peerRatio(cell), paperRatio(cell)].map(ratio),
      ];
    }),
  );
  console.log('\n  e/best: (e) against the best of the others; split/best: against (a), (b), (c), where (e) splits;');
  console.log('  paper: unpruned and split, by computing and bytes over the rate, against (d)');
  printParts(cells);
  printData(cells);
}

/** Bytes, accuracy and stages of what was measured in each cell. */
function printParts(cells: Cell[]): void {
  console.log('\nparts, medians in ms:');
  const stages = ['head', 'encode', 'network', 'queue', 'decode', 'tail'] as const;
  const rows = cells.flatMap((cell) => Object.values(cell.sides).map((it) => ({ cell, it })));
  printTable(
    ['side', 'variant', 'split', 'codec', 'accuracy', 'bytes', 'capture', ...stages, 'total'],
    rows.map(({ cell, it }) => [
      `${nameOf(cell)} (${it.side})`,
      it.variant,
      it.split,
      it.codec,
      it.accuracy.toFixed(2),
      it.messageBytes.toFixed(0),
      ...[it.stages.capture + it.stages.normalize, ...stages.map((stage) => it.stages[stage]), it.totalMs].map((ms) =>
        ms.toFixed(2),
      ),
    ]),
  );
}

/** What each side sends; answers, and what lies below WebSocket messages, are not counted. */
function printData(cells: Cell[]): void {
  console.log('\ndata of an hour at 10 frames a second, MB sent:');
  printTable(
    ['device, link', '(a), (b)', '(c)', '(d)', '(e)'],
    cells.map((cell) => {
      const { c, d, e } = cell.sides;
      return [nameOf(cell), '0', ...[c, d, e].map((it) => (it ? megabytesAnHour(it).toFixed(1) : '–'))];
    }),
  );
}

/** Megabytes that a side sends in an hour. */
export function megabytesAnHour({ meanMessageBytes }: Measurement): number {
  return (meanMessageBytes * FRAMES_AN_HOUR) / 1e6;
}

/** Every goal, cell by cell. */
export function reportGoals(report: Report, { settings }: Bench, measurements: Measurement[]): void {
  const cells = cellsOf(settings.links, settings.factors, measurements);
  console.log();
  const pays = cells.filter((it) => (splitRatio(it) ?? Number.POSITIVE_INFINITY) <= SPLIT_RATIO);
  report.atLeast(`cells where (e) splits and takes at most ${SPLIT_RATIO} of the best other`, pays.length, SPLIT_CELLS);
  for (const cell of cells.filter((it) => it.sides.e)) {
    report.atMost(`(e) against the best of the others, ${nameOf(cell)}`, freeRatio(cell), FREE_RATIO);
  }
  for (const cell of cells.filter((it) => it.factor > 1)) {
    report.atLeast(`(a)/(e), ${nameOf(cell)}`, peerRatio(cell), PAPER_RATIO);
    const ratio = paperRatio(cell);
    if (ratio !== undefined)
      report.atLeast(`unpruned and split/(d), paper's latency, ${nameOf(cell)}`, ratio, PAPER_RATIO);
  }
}

function nameOf({ factor, link }: Cell): string {
  return `×${factor} ${link.name}`;
}

function timeOf(it: Measurement | undefined): number {
  return it?.totalMs ?? Number.NaN;
}

function bestOf(sides: (Measurement | undefined)[]): number {
  return Math.min(...sides.map((it) => it?.totalMs ?? Number.POSITIVE_INFINITY));
}
