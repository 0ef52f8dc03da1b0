// How fast the product is in a browser, with onnxruntime-web beside it.

import { mkdirSync, statSync } from 'node:fs';
import { join } from 'node:path';

import { measureFirstLabels } from './browser/first-label.js';
import { measureHeads, measureLoading } from './browser/heads.js';
import { measureSizes } from './browser/sizes.js';
import { measureStream } from './browser/stream.js';
import { launch } from './chromium.js';
import { edgeWorker, run } from './machine.js';
import { Report } from './report.js';
import { Series } from './series.js';
import { serve } from './serve.js';
import { main, required, settings } from './settings.js';

const HELP = `Measures the page and its WebAssembly in Chromium.

  --series DIR      folder of the series [models/cifar10-vgg16]
  --onnx DIR        its heads as ONNX, VARIANT-SPLIT-head.onnx and VARIANT.onnx; made from the series if not given
  --data DIR        image folder whose test/<class>/* the camera sees; made-up pictures if not given
  --programs DIR    the built programs
  --web DIR         the built page
  --wasm DIR        the built WebAssembly [web/packages/client/wasm]
  --work DIR        where files of this benchmark are kept
  --report FILE     where to write the numbers as JSON
  --heads           only heads and sizes
  --stream          only the stream from the camera
  --quick           few runs and frames: to see whether it runs`;

const OPTIONS = {
  series: { type: 'string', default: 'models/cifar10-vgg16' },
  onnx: { type: 'string' },
  data: { type: 'string' },
  programs: { type: 'string' },
  web: { type: 'string' },
  wasm: { type: 'string', default: 'web/packages/client/wasm' },
  work: { type: 'string' },
  report: { type: 'string' },
  heads: { type: 'boolean' },
  stream: { type: 'boolean' },
  quick: { type: 'boolean' },
} as const;

/** A head's time against onnxruntime-web's: of the series, and of well-known networks with random weights. */
const SERIES_RATIO = 0.57;
const FAMILY_RATIO = 0.6;
/** The codec of the series against the head in percent; those of the other networks are not calibrated. */
const CODEC_PERCENT = 5;
/** What the camera shows: 640×480 pixels. */
const CAMERA = ['--size', '160', '--scale', '4', '--rows', '480', '--frames', '120'];
/** Those networks. */
const FAMILIES = ['tf_efficientnet_lite0', 'mobilenet_v2', 'resnet18'];

main(async () => {
  const values = settings(HELP, OPTIONS);
  const flag = (name: keyof typeof OPTIONS) => required(values[name], name);
  const [programs, folder, web, work] = [flag('programs'), values.series, flag('web'), flag('work')];
  const quick = values.quick ?? false;
  const series = await Series.open(folder);
  const onnx = values.onnx ?? join(work, 'onnx');
  const clip = join(work, 'clip.y4m');
  mkdirSync(work, { recursive: true });
  const prepare = (...parameters: string[]) => run(join(programs, 'prepare'), parameters);
  if (!values.onnx && !values.stream) prepare('onnx', '--series', folder, '--to', onnx);
  const data = values.data ? ['--data', values.data] : [];
  prepare('clip', '--to', clip, ...CAMERA, ...data);
  const peer = await serve({ wasm: values.wasm, onnx, series: folder });
  const edge = await edgeWorker(programs, folder, web);
  const browser = await launch(clip);
  const report = new Report();
  const places = { browser, programs, series, edge: edge.url, peer };
  if (!values.stream) {
    await measureSizes(report, edge.url, web);
    await measureHeads(report, places, {
      rounds: quick ? 20 : 120,
      frames: quick ? 500 : 10_000,
      ratio: SERIES_RATIO,
      codecPercent: CODEC_PERCENT,
    });
    for (const network of FAMILIES) {
      const [folder, onnx] = [join(work, network), join(work, `${network}-onnx`)];
      prepare('family', '--network', network, '--to', folder);
      prepare('onnx', '--series', folder, '--to', onnx);
      run(join(programs, 'trainer'), ['time', '--series', folder]);
      const edge = await edgeWorker(programs, folder, web);
      const peer = await serve({ wasm: values.wasm, onnx, series: folder });
      const places = { browser, programs, series: await Series.open(folder), edge: edge.url, peer };
      await measureHeads(report, places, { rounds: quick ? 10 : 40, frames: quick ? 100 : 500, ratio: FAMILY_RATIO });
      await measureLoading(report, places, (head) => statSync(join(onnx, `${head}.onnx`)).size);
      edge.program.stop();
    }
  }
  if (!values.heads && !values.stream) await measureFirstLabels(report, places, quick ? 1 : 5);
  if (!values.heads) await measureStream(report, places, quick ? 300 : 10_000);
  await report.write(flag('report'));
});
