// The benchmark that matters: from frame to label, for every link and class of device, ours and what it has to beat.

import { openBench } from './latency/bench.js';
import type { Measurement } from './latency/measurement.js';
import { prepare } from './latency/prepare.js';
import { measureClass } from './latency/sides.js';
import { printCells, reportGoals } from './latency/summary.js';
import { drawLatencies } from './latency/svg.js';
import { LINKS, THREE_G, WIFI } from './links.js';
import { Report } from './report.js';
import { main, required, settings } from './settings.js';

const HELP = `Measures latency from frame to label.

  --series DIR      folder of the series [models/cifar10-vgg16]
  --checkpoint FILE the unpruned network, as the trainer keeps it
  --data DIR        image folder: train/<class>/*, test/<class>/*
  --programs DIR    the built programs
  --web DIR         the built page
  --work DIR        where files of this benchmark are kept
  --report FILE     where to write the numbers as JSON; the picture lies beside it
  --modelled        on machines that do not allow to slow a core down: multiply the stages on the device instead
  --quick           few frames, two links, two classes: to see whether it runs`;

const OPTIONS = {
  series: { type: 'string', default: 'models/cifar10-vgg16' },
  checkpoint: { type: 'string' },
  data: { type: 'string' },
  programs: { type: 'string' },
  web: { type: 'string' },
  work: { type: 'string' },
  report: { type: 'string' },
  modelled: { type: 'boolean' },
  quick: { type: 'boolean' },
} as const;

main(async () => {
  const values = settings(HELP, OPTIONS);
  const flag = (name: keyof typeof OPTIONS) => required(values[name], name);
  const quick = values.quick ?? false;
  const files = await prepare({
    programs: flag('programs'),
    series: values.series,
    checkpoint: flag('checkpoint'),
    data: flag('data'),
    work: flag('work'),
  });
  const bench = await openBench(files, {
    programs: flag('programs'),
    web: flag('web'),
    modelled: values.modelled ?? false,
    links: quick ? [THREE_G, WIFI] : LINKS,
    factors: quick ? [1, 10] : [1, 5, 10],
    frames: quick ? 8 : 40,
    withinMs: quick ? 3000 : 5000,
    each: quick ? 1 : 2,
  });
  const measurements: Measurement[] = [];
  for (const factor of bench.settings.factors) measurements.push(...(await measureClass(bench, factor)));
  printCells(bench, measurements);
  const report = new Report();
  for (const it of measurements) report.row(it);
  for (const it of bench.notes) report.row(it);
  reportGoals(report, bench, measurements);
  const path = flag('report');
  const picture = path.replace(/(\.json)?$/, '.svg');
  await drawLatencies(picture, bench.settings, measurements);
  await report.write(path);
  console.log(`\npicture: ${picture}`);
});
