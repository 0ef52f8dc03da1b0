import type { Goal, SplitClient } from 'split-inference';

import { type Comparison, PICTURES, runThrough, takePictures } from '../comparison.js';
import { element, html, setText } from '../dom.js';
import type { Mode } from '../options.js';
import { count, milliseconds, percent } from '../words.js';

const NAMES: Record<Mode, string> = {
  device: 'Device only',
  edge: 'Edge only',
  split: 'Split',
  automatic: 'Automatic',
};
/** The most work on the edge first: with all of the picture, its answers are what others are held against. */
const ORDER: readonly Mode[] = ['device', 'edge', 'split', 'automatic'];

/** What a comparison needs of the page. */
export interface Bench {
  client: SplitClient | undefined;
  /** What shows the pictures. */
  picture: HTMLCanvasElement | HTMLVideoElement;
  /** The goal that the controls say, for another way of working. */
  goal: (mode: Mode) => Goal;
  /** Keeps other frames away meanwhile. */
  rest: (isResting: boolean) => void;
}

/** The button that compares ways of working, and the table beside it. */
export class CompareControls {
  readonly #button = element('compare', HTMLButtonElement);
  readonly #state = element('compare-state', HTMLElement);
  readonly #table = element('comparison', HTMLTableElement);

  constructor(bench: () => Bench) {
    this.#button.onclick = () => this.#compare(bench());
  }

  /** Takes the comparison away: it was of another series. */
  clear(): void {
    this.#table.hidden = true;
  }

  async #compare({ client, picture, goal, rest }: Bench): Promise<void> {
    if (!client) {
      setText(this.#state, 'There is nothing to compare before the network is loaded.');
      return;
    }
    this.#button.disabled = true;
    try {
      const pictures = await takePictures(picture, (taken) =>
        setText(this.#state, `Picture ${taken} of ${PICTURES} …`),
      );
      rest(true);
      const rows = new Map<Mode, Comparison>();
      for (const mode of ORDER) {
        setText(this.#state, `${NAMES[mode]} …`);
        rows.set(mode, await runThrough(client, pictures, goal(mode), mode));
        this.#show(rows, client);
      }
      setText(this.#state, `The same ${count(PICTURES, 'picture')}, one after the other.`);
      for (const it of pictures) it.close();
    } catch (thrown) {
      const why = thrown instanceof Error ? thrown.message : thrown;
      setText(this.#state, `The comparison was broken off: ${why}.`);
    } finally {
      rest(false);
      this.#button.disabled = false;
    }
  }

  #show(rows: Map<Mode, Comparison>, client: SplitClient): void {
    const body = this.#table.tBodies[0];
    const made = [...rows].map(([mode, comparison]) => row(mode, comparison, rows, client));
    body?.replaceChildren(...made);
    this.#table.hidden = false;
  }
}

function row(mode: Mode, { results, problem }: Comparison, rows: Map<Mode, Comparison>, client: SplitClient): Node {
  const name = html('th', { scope: 'row' }, NAMES[mode]);
  if (problem !== undefined) return html('tr', {}, name, html('td', { colSpan: 4, className: 'why' }, problem));
  const { points } = client.series;
  const middle = median(results.map((it) => it.timings.total));
  const sent = mean(results.map((it) => it.messageBytes));
  const accuracy = mean(results.map((it) => points[it.point]?.accuracy ?? 0));
  const cells = [
    `${milliseconds(middle)} ms`,
    count(Math.round(sent), 'byte'),
    percent(accuracy),
    agreement(mode, results, rows),
  ];
  return html('tr', {}, name, ...cells.map((it) => html('td', {}, it)));
}

/** On how many pictures this way says what the edge worker says, which computes everything on the picture itself. */
function agreement(mode: Mode, results: Comparison['results'], rows: Map<Mode, Comparison>): string {
  const others = rows.get('edge')?.results ?? [];
  if (mode === 'edge' || others.length !== results.length) return '–';
  const same = results.filter((it, at) => it.label === others[at]?.label).length;
  return `${same} of ${results.length}`;
}

function median(values: number[]): number {
  return [...values].sort((a, b) => a - b)[values.length >> 1] ?? 0;
}

function mean(values: number[]): number {
  return values.reduce((sum, it) => sum + it, 0) / Math.max(values.length, 1);
}
