import type { Goal, SplitClient } from 'split-inference';

import { type Comparison, PICTURES, runThrough, takePictures } from '../comparison.js';
import { element, html, setText } from '../dom.js';
import type { Mode } from '../mode.js';
import type { Source } from '../sources/source.js';
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
  /** Where the pictures come from. */
  source: Source | undefined;
  /** The goal that the controls say, for another way of working. */
  goal: (mode: Mode) => Goal;
  /** Keeps other frames away meanwhile. */
  rest: (isResting: boolean) => void;
}

/** The button that compares ways of working, and the table beside it. */
export class CompareControls {
  readonly #button = element('compare', HTMLButtonElement);
  readonly #state = element('compare-state', HTMLElement);
  readonly #count = element('compare-count', HTMLElement);
  readonly #table = element('comparison', HTMLTableElement);
  /** The comparison that is made now. */
  #run: AbortController | undefined;

  constructor(bench: () => Bench) {
    this.#button.onclick = () => (this.#run ? this.#run.abort() : this.#compare(bench()));
  }

  /** Takes the comparison away: it was of another series. */
  clear(): void {
    this.#run?.abort();
    this.#table.hidden = true;
  }

  async #compare({ client, source, goal, rest }: Bench): Promise<void> {
    if (!client || !source) {
      setText(
        this.#state,
        `There is nothing to compare ${client ? 'without a picture' : 'before the network is loaded'}.`,
      );
      return;
    }
    this.#run = new AbortController();
    const { signal } = this.#run;
    setText(this.#button, 'Stop');
    setText(this.#state, 'Meanwhile, the result and the figures above stand still.');
    rest(true);
    try {
      const pictures = await takePictures(source, signal);
      const rows = new Map<Mode, Comparison>();
      for (const mode of ORDER) {
        const onAnswer = (count: number) => {
          const progress = count > 0 ? `${count} of ${PICTURES}` : 'getting ready';
          setText(this.#count, `${NAMES[mode]}: ${progress} …`);
        };
        rows.set(mode, await runThrough(client, pictures, { goal: goal(mode), mode }, { signal, onAnswer }));
        this.#show(rows, client);
      }
      setText(this.#state, `The same ${count(PICTURES, 'picture')}, one after the other.`);
      for (const it of pictures) it.close();
    } catch (thrown) {
      const why = thrown instanceof Error ? thrown.message : thrown;
      setText(this.#state, signal.aborted ? 'Stopped.' : `The comparison was broken off: ${why}.`);
    } finally {
      this.#run = undefined;
      setText(this.#button, 'Compare');
      setText(this.#count, '');
      rest(false);
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
