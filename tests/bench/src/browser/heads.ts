import type { Times } from '../../pages/heads-worker.js';
import { printTable, type Report } from '../report.js';
import type { Point, Series } from '../series.js';
import { median } from '../statistics.js';
import type { Places } from './places.js';

/** Predicted against measured times of heads that have not run. */
const PREDICTION_PERCENT = 25;
/** Loading a head of 224-pixel pictures up to stride 8, and its memory beside the weights. */
const LOADING_MS = 50;
const HEAD_MB = 16;

const BINARIES = ['relaxed', 'simd'] as const;

interface Row {
  point: Point;
  onnxruntimeMs: number;
  relaxedMs: number;
  simdMs: number;
  relaxedRatio: number;
  simdRatio: number;
  /** Encoding here and decoding on the edge, of the head's time in percent. */
  codecPercent: number;
}

/**
 * Every head of the series in both binaries and in onnxruntime-web, in one web worker; then many frames through one.
 * `ratio` is the goal for a head's time against onnxruntime-web's, `codecPercent` that for the codec's time against the head's.
 */
export async function measureHeads(
  report: Report,
  { browser, series, edge, peer }: Places,
  { rounds, frames, ratio, codecPercent }: { rounds: number; frames: number; ratio: number; codecPercent?: number },
): Promise<void> {
  console.log(`\nheads of ${series.name}, medians in ms, in turns in one web worker`);
  const page = await browser.newPage();
  await page.goto(new URL('pages/heads.html', peer).href);
  await page.evaluate((it) => globalThis.ask<'start'>({ type: 'start', edge: it }), edge);
  const rows: Row[] = [];
  for (const point of distinctHeads(series.points)) {
    const request = { type: 'time' as const, point: point.index, model: `/onnx/${fileName(point)}.onnx`, rounds };
    const times = await page.evaluate((it) => globalThis.ask<'time'>(it), request);
    rows.push(row(point, times));
    report.row({ name: 'head', series: series.name, ...row(point, times), times });
  }
  print(rows);
  goals(report, series, rows, ratio, codecPercent);
  predictions(report, series, rows);
  const cheapest = rows.filter((it) => it.point.split !== 'output').sort((a, b) => a.relaxedMs - b.relaxedMs)[0];
  const soak = { type: 'soak' as const, point: cheapest?.point.index ?? 0, frames };
  const memory = await page.evaluate((it) => globalThis.ask<'soak'>(it), soak);
  report.row({ name: 'WebAssembly memory', frames, ...memory });
  report.atMost(
    `growth of WebAssembly memory in ${frames} frames of ${series.name}, kB`,
    (memory.afterBytes - memory.beforeBytes) / 1e3,
    0,
  );
  await page.close();
}

/**
 * Loads every head, each in a web worker of its own, and runs it.
 *
 * `weightBytes` is the size of the weights of a point's head.
 */
export async function measureLoading(
  report: Report,
  { browser, series, edge, peer }: Places,
  weightBytes: (head: string) => number,
): Promise<void> {
  console.log(`\nloading heads of ${series.name}`);
  const table: string[][] = [];
  for (const point of distinctHeads(series.points)) {
    const page = await browser.newPage();
    await page.goto(new URL('pages/heads.html', peer).href);
    await page.evaluate((it) => globalThis.ask<'start'>({ type: 'start', edge: it }), edge);
    const loaded = await page.evaluate((it) => globalThis.ask<'load'>({ type: 'load', point: it }), point.index);
    await page.close();
    const head = fileName(point);
    const weights = weightBytes(head);
    for (const binary of BINARIES) {
      const { milliseconds, grownBytes } = loaded[binary];
      const beside = (grownBytes - weights) / 1e6;
      report.row({
        name: 'loading',
        series: series.name,
        head,
        binary,
        milliseconds,
        grownBytes,
        weightBytes: weights,
      });
      table.push([head, binary, ...[weights / 1e6, grownBytes / 1e6, milliseconds].map((it) => it.toFixed(1))]);
      if (point.split === 'output') continue;
      report.atMost(`memory of ${series.name}, ${head}, ${binary}, beside the weights, MB`, beside, HEAD_MB);
      if (point.split === 'stride8') {
        report.atMost(`loading ${series.name}, ${head}, ${binary}, ms`, milliseconds, LOADING_MS);
      }
    }
  }
  printTable(['head', 'binary', 'weights, MB', 'memory, MB', 'ms'], table);
}

/**
 * Predicts every head from every other, as the latency profile does when one head has run: in proportion to the reference times.
 */
function predictions(report: Report, series: Series, rows: Row[]): void {
  for (const binary of BINARIES) {
    const times = rows.map(({ point, ...it }) => ({ point, ms: it[`${binary}Ms`] }));
    const errors = times.flatMap((known) =>
      times
        .filter((it) => it !== known)
        .map((it) => {
          const predictedMs = (known.ms * it.point.headMicros) / known.point.headMicros;
          const row = { known: fileName(known.point), head: fileName(it.point), measuredMs: it.ms, predictedMs };
          report.row({ name: 'prediction', series: series.name, binary, ...row });
          return 100 * Math.abs(predictedMs / it.ms - 1);
        }),
    );
    report.atMost(
      `error of predicted times of ${series.name}, ${binary}, %, median`,
      median(errors),
      PREDICTION_PERCENT,
    );
    report.atMost(
      `error of predicted times of ${series.name}, ${binary}, %, worst`,
      Math.max(...errors),
      PREDICTION_PERCENT,
    );
  }
}

/** Points that differ in their head: the codec changes nothing for it. */
function distinctHeads(points: Point[]): Point[] {
  const heads = new Map(points.filter((it) => it.split !== 'input').map((it) => [fileName(it), it]));
  return [...heads.values()];
}

function fileName({ variant, split }: Point): string {
  return split === 'output' ? variant : `${variant}-${split}-head`;
}

function row(point: Point, times: Times): Row {
  const head = (side: { head: number }[]) => median(side.map((it) => it.head));
  const [onnxruntimeMs, relaxedMs, simdMs] = [head(times.onnxruntime), head(times.relaxed), head(times.simd)];
  const codecMs = median(times.relaxed.map((it) => it.encode + it.decode));
  return {
    point,
    onnxruntimeMs,
    relaxedMs,
    simdMs,
    relaxedRatio: relaxedMs / onnxruntimeMs,
    simdRatio: simdMs / onnxruntimeMs,
    codecPercent: (100 * codecMs) / relaxedMs,
  };
}

function print(rows: Row[]): void {
  printTable(
    ['head', 'MMAC', 'onnxruntime-web', 'relaxed', 'simd', 'relaxed/ort', 'simd/ort', 'codec, % of head'],
    rows.map((it) => [
      fileName(it.point),
      (it.point.headMacs / 1e6).toFixed(1),
      ...[it.onnxruntimeMs, it.relaxedMs, it.simdMs].map((ms) => ms.toFixed(3)),
      ...[it.relaxedRatio, it.simdRatio].map((ratio) => ratio.toFixed(2)),
      it.point.split === 'output' ? '–' : it.codecPercent.toFixed(1),
    ]),
  );
  console.log();
}

function goals(report: Report, series: Series, rows: Row[], ratio: number, codecPercent?: number): void {
  for (const split of [...series.splitPoints, 'output']) {
    const here = rows.filter((it) => it.point.split === split);
    if (here.length === 0) continue;
    for (const binary of BINARIES) {
      const worst = Math.max(...here.map((it) => it[`${binary}Ratio`]));
      const head = `head of ${series.name} at ${split}`;
      report.atMost(`${head}, ${binary}, against onnxruntime-web, worst variant`, worst, ratio);
    }
  }
  if (codecPercent === undefined) return;
  const coded = rows.filter((it) => it.point.split !== 'output').map((it) => it.codecPercent);
  report.atMost(`encoding and decoding, % of the head, worst head of ${series.name}`, Math.max(...coded), codecPercent);
}
