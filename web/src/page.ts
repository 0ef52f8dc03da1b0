import type { Result, Selection, SplitClient } from 'split-inference';

import { element, setText } from './dom.js';
import { History } from './history.js';
import type { Session } from './session.js';
import { calmly, paced, throttled } from './throttle.js';
import { ChartsView } from './views/charts.js';
import { ConnectionView } from './views/connection.js';
import { FiguresView } from './views/figures.js';
import { NetworkView } from './views/network.js';
import { ResultView } from './views/result.js';
import { StagesView } from './views/stages.js';
import { count, describe, imagesOf, reason } from './words.js';

/** How often figures change at most: faster, nobody reads them. Another label or operating point does not wait. */
const FIGURES_MS = 80;
const CHARTS_MS = 100;
const TABLE_MS = 500;

/** Everything that the page shows of client and results. */
export class Page {
  readonly connection = new ConnectionView();
  readonly #session: Session;
  readonly #history = new History();
  readonly #result = new ResultView();
  readonly #figures = new FiguresView();
  readonly #network = new NetworkView();
  readonly #stages = new StagesView();
  readonly #charts = new ChartsView();
  #client: SplitClient | undefined;
  /** The last result, and the one on screen. */
  #last: Result | undefined;
  #shown: Result | undefined;
  readonly #showReadout = paced(FIGURES_MS, () => this.#drawReadout());
  readonly #showCharts = throttled(calmly(CHARTS_MS), () => this.#charts.show(this.#history));
  readonly #showTable = throttled(calmly(TABLE_MS), () => this.#drawTable());

  constructor(session: Session) {
    this.#session = session;
  }

  /** Shows a client's series. */
  use(client: SplitClient): void {
    this.#client = client;
    const { series, classes, notice } = client.series;
    const many = count(classes.length, 'class', 'classes');
    const about = `Series ${series}: ${many}. Accuracies: right on ${imagesOf(client.series)}. ${notice}`;
    setText(element('about', HTMLElement), about.trim());
    setText(element('knows', HTMLElement), `It knows ${many}: ${classes.join(', ')}.`);
    this.#result.wait('No picture yet');
    if (client.selection) this.select(client.selection);
  }

  /** Forgets what belongs to the client before. */
  clear(): void {
    this.#client = undefined;
    this.#last = undefined;
    this.#shown = undefined;
    this.#history.clear();
    this.#result.clear('Loading…');
  }

  /** Shows a result. */
  show(result: Result): void {
    this.#last = result;
    this.#history.add(result, performance.now());
    this.#showReadout(result.label !== this.#shown?.label || result.point !== this.#shown.point);
    this.#showCharts();
    this.#showTable();
  }

  /** Shows the operating point that will be used, and why; once there is a result, this is shown with the next one. */
  select(selection: Selection): void {
    if (!this.#shown) this.#showPoint(selection.point);
    this.#showReason(this.#shown?.point ?? selection.point);
  }

  /** Says why there is no result. */
  wait(text: string): void {
    this.#result.wait(text);
  }

  /** All that is shown at a time belongs to one result. */
  #drawReadout(): void {
    const result = this.#last;
    if (!result) return;
    const isOther = result.point !== this.#shown?.point;
    this.#shown = result;
    this.#result.show(result);
    const accuracy = this.#client?.series.points[result.point]?.accuracy;
    this.#figures.show(result, accuracy, this.#history);
    this.#showPoint(result.point, result.messageBytes);
    if (isOther) this.#showReason(result.point);
  }

  #showPoint(index: number, messageBytes?: number): void {
    const { series } = this.#client ?? {};
    const point = series?.points[index];
    if (!series || !point) return;
    this.#network.show(point, messageBytes);
    setText(element('in-use', HTMLElement), describe(point, series));
  }

  /** Why an operating point is in use. */
  #showReason(shown: number): void {
    const { series, state, selection } = this.#client ?? {};
    if (!series || !state || !selection) return;
    setText(element('reason', HTMLElement), reason(selection, { series, state, shown }));
  }

  #drawTable(): void {
    if (this.#last) this.#stages.show(this.#last, this.#history);
    if (this.#shown) this.#showReason(this.#shown.point);
    setText(element('session', HTMLElement), `${count(this.#session.count, 'frame')} measured.`);
  }
}
