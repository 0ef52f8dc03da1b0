import { writeFile } from 'node:fs/promises';

import type { Settings } from './bench.js';
import { type Measurement, SIDES } from './measurement.js';
import { type Cell, cellsOf } from './summary.js';

const PANEL = { width: 230, height: 190, bars: 120 };
const LEFT = 20;
const TOP = 60;
const BAR = 34;
const PARTS = [
  { name: 'device', colour: '#2a7f9e' },
  { name: 'link', colour: '#c9a227' },
  { name: 'edge', colour: '#7a4a8c' },
] as const;

/** Draws every cell: a bar for each side, device, link and edge on top of each other. */
export async function drawLatencies(path: string, settings: Settings, measurements: Measurement[]): Promise<void> {
  const { links, factors } = settings;
  const cells = cellsOf(links, factors, measurements);
  const [width, height] = [LEFT + PANEL.width * links.length, TOP + PANEL.height * factors.length + 20];
  const panels = cells.map((cell, at) => {
    const [column, row] = [at % links.length, Math.floor(at / links.length)];
    return `<g transform="translate(${LEFT + column * PANEL.width} ${TOP + row * PANEL.height})">${panel(cell)}</g>`;
  });
  const svg = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" font-family="sans-serif" font-size="11">
<rect width="100%" height="100%" fill="white"/>
${legend()}
${panels.join('\n')}
</svg>
`;
  await writeFile(path, svg);
}

function legend(): string {
  const sides = Object.entries(SIDES).map(([side, name]) => `(${side}) ${name}`);
  const parts = PARTS.map(
    ({ name, colour }, at) =>
      `<rect x="${LEFT + at * 70}" y="30" width="10" height="10" fill="${colour}"/><text x="${LEFT + 14 + at * 70}" y="39">${name}</text>`,
  );
  return `<text x="${LEFT}" y="18">From frame to label, median in ms: ${sides.join(', ')}</text>${parts.join('')}`;
}

function panel({ factor, link, sides }: Cell): string {
  const letters = Object.keys(SIDES) as (keyof typeof SIDES)[];
  const shown = letters.flatMap((it) => sides[it] ?? []);
  const scale = PANEL.bars / Math.max(...shown.map((it) => it.totalMs));
  const bars = letters.map((side, at) => {
    const it = sides[side];
    return it ? `<g transform="translate(${at * (BAR + 6)} 0)">${bar(it, scale)}</g>` : '';
  });
  return `<text x="0" y="10" font-weight="bold">device ×${factor}, ${link.name}</text>${bars.join('')}`;
}

function bar(it: Measurement, scale: number): string {
  const { network, queue, decode, tail } = it.stages;
  const edge = queue + decode + tail;
  const heights = [it.totalMs - network - edge, network, edge].map((ms) => Math.max(0, ms) * scale);
  let y = 30 + PANEL.bars;
  const rects = heights.map((height, at) => {
    y -= height;
    return `<rect x="0" y="${y.toFixed(1)}" width="${BAR}" height="${height.toFixed(1)}" fill="${PARTS[at]?.colour}"/>`;
  });
  const label = `<text x="${BAR / 2}" y="${(y - 4).toFixed(1)}" text-anchor="middle">${it.totalMs.toFixed(it.totalMs < 100 ? 1 : 0)}</text>`;
  return `${rects.join('')}${label}<text x="${BAR / 2}" y="${PANEL.bars + 44}" text-anchor="middle">${it.side}</text>`;
}
