import type { Times } from '../../pages/heads-worker.js';
import { printTable, type Report } from '../report.js';
import type { Point } from '../series.js';
import { median } from '../statistics.js';
import type { Places } from './places.js';

/** Head against onnxruntime-web, and the codec against the head in percent. */
const HEAD_RATIO = 1.0;
const CODEC_PERCENT = 5;

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

/** Every head of the series in both binaries and in onnxruntime-web, in one web worker; then many frames through one. */
export async function measureHeads(
  report: Report,
  { browser, series, edge, peer }: Places,
  { rounds, frames }: { rounds: number; frames: number },
): Promise<void> {
  console.log('\nheads, medians in ms, in turns in one web worker');
  const page = await browser.newPage();
  await page.goto(new URL('pages/heads.html', peer).href);
  await page.evaluate((it) => globalThis.ask<'start'>({ type: 'start', edge: it }), edge);
  const rows: Row[] = [];
  for (const point of distinctHeads(series.points)) {
    const request = { type: 'time' as const, point: point.index, model: `/onnx/${fileName(point)}.onnx`, rounds };
    const times = await page.evaluate((it) => globalThis.ask<'time'>(it), request);
    rows.push(row(point, times));
    report.row({ name: 'head', ...row(point, times), times });
  }
  print(rows);
  goals(report, rows, [...series.splitPoints, 'output']);
  const cheapest = rows.filter((it) => it.point.split !== 'output').sort((a, b) => a.relaxedMs - b.relaxedMs)[0];
  const soak = { type: 'soak' as const, point: cheapest?.point.index ?? 0, frames };
  const memory = await page.evaluate((it) => globalThis.ask<'soak'>(it), soak);
  report.row({ name: 'WebAssembly memory', frames, ...memory });
  report.atMost(
    `growth of WebAssembly memory in ${frames} frames, kB`,
    (memory.afterBytes - memory.beforeBytes) / 1e3,
    0,
  );
  await page.close();
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

function goals(report: Report, rows: Row[], splits: string[]): void {
  for (const split of splits) {
    const here = rows.filter((it) => it.point.split === split);
    if (here.length === 0) continue;
    for (const binary of BINARIES) {
      const worst = Math.max(...here.map((it) => it[`${binary}Ratio`]));
      report.atMost(`head at ${split}, ${binary}, against onnxruntime-web, worst variant`, worst, HEAD_RATIO);
    }
  }
  const coded = rows.filter((it) => it.point.split !== 'output').map((it) => it.codecPercent);
  report.atMost('encoding and decoding, % of the head, worst head', Math.max(...coded), CODEC_PERCENT);
}
