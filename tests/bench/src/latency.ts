// The benchmark that matters: from frame to label, for every link and class of device, ours and what it has to beat.

import { openBench } from './latency/bench.js';
import { measureCold, printCold } from './latency/cold.js';
import type { Measurement } from './latency/measurement.js';
import { prepare } from './latency/prepare.js';
import { measureClass } from './latency/sides.js';
import { printCells, reportGoals } from './latency/summary.js';
import { drawLatencies } from './latency/svg.js';
import { LINKS, THREE_G, WIFI } from './links.js';
import { Report } from './report.js';
import { main, required, settings } from './settings.js';

const HELP = `Measures latency from frame to label, the data that is sent, and the time to the first label.

  --series DIR      folder of the series [models/grocery-lite0]
  --data DIR        image folder: train/<class>/*, test/<class>/*
  --checkpoint FILE the unpruned network, as the trainer keeps it, for a series that does not have it; without it, nothing is compared with that
  --programs DIR    the built programs
  --web DIR         the built page
  --work DIR        where files of this benchmark are kept
  --report FILE     where to write the numbers as JSON; the picture lies beside it
  --modelled        on machines that do not allow to slow a core down: multiply the stages on the device instead
  --no-cold         without the times to the first label
  --quick           few frames, two links, two classes: to see whether it runs`;

const OPTIONS = {
  series: { type: 'string', default: 'models/grocery-lite0' },
  checkpoint: { type: 'string' },
  data: { type: 'string' },
  programs: { type: 'string' },
  web: { type: 'string' },
  work: { type: 'string' },
  report: { type: 'string' },
  modelled: { type: 'boolean' },
  'no-cold': { type: 'boolean' },
  quick: { type: 'boolean' },
} as const;

main(async () => {
  const values = settings(HELP, OPTIONS);
  const flag = (name: keyof typeof OPTIONS) => required(values[name], name);
  const quick = values.quick ?? false;
  const files = await prepare({
    programs: flag('programs'),
    series: values.series,
    checkpoint: values.checkpoint,
    data: flag('data'),
    work: flag('work'),
  });
  const bench = await openBench(files, {
    programs: flag('programs'),
    web: flag('web'),
    modelled: values.modelled ?? false,
    links: quick ? [THREE_G, WIFI] : LINKS,
    factors: quick ? [1, 10] : [1, 5, 10],
    frames: quick ? 8 : 30,
    withinMs: quick ? 2000 : 5000,
  });
  const measurements: Measurement[] = [];
  for (const factor of bench.settings.factors) measurements.push(...(await measureClass(bench, factor)));
  await bench.browser.close();
  const colds = values['no-cold'] ? [] : await measureCold(bench);
  printCells(bench, measurements);
  if (colds.length > 0) printCold(colds);
  const report = new Report();
  for (const it of [...measurements, ...bench.notes, ...colds]) report.row(it);
  reportGoals(report, bench, measurements);
  const path = flag('report');
  const picture = path.replace(/(\.json)?$/, '.svg');
  await drawLatencies(picture, bench.settings, measurements);
  await report.write(path);
  console.log(`\npicture: ${picture}`);
});
