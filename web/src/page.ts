import type { Result, Selection, SplitClient } from 'split-inference';

import { element, setText } from './dom.js';
import { History } from './history.js';
import type { Session } from './session.js';
import { calmly, throttled } from './throttle.js';
import { ChartsView } from './views/charts.js';
import { ConnectionView } from './views/connection.js';
import { FiguresView } from './views/figures.js';
import { NetworkView } from './views/network.js';
import { ResultView } from './views/result.js';
import { StagesView } from './views/stages.js';
import { describe, reason } from './words.js';

/** How often figures change at most: faster, nobody reads them. */
const FIGURES_MS = 100;
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
  #last: Result | undefined;
  readonly #showFigures = throttled(
    () => FIGURES_MS,
    () => this.#drawFigures(),
  );
  readonly #showCharts = throttled(calmly(FIGURES_MS), () => this.#charts.show(this.#history));
  readonly #showTable = throttled(calmly(TABLE_MS), () => this.#drawTable());

  constructor(session: Session) {
    this.#session = session;
  }

  /** Shows a client's series. */
  use(client: SplitClient): void {
    this.#client = client;
    const { series, measuredOn, measuredImages, classes } = client.series;
    const images = `accuracies measured on ${measuredImages.toLocaleString('en')} images of ${measuredOn}`;
    setText(element('about', HTMLElement), `Series ${series}: ${classes.length} classes, ${images}.`);
    this.#result.wait('No picture yet');
    if (client.selection) this.select(client.selection);
  }

  /** Shows a result. */
  show(result: Result): void {
    this.#last = result;
    this.#history.add(result, performance.now());
    this.#showFigures();
    this.#showCharts();
    this.#showTable();
  }

  /** Shows the operating point in use, and why. */
  select(selection: Selection): void {
    const { series, state } = this.#client ?? {};
    const point = series?.points[selection.point];
    if (!series || !state || !point) return;
    this.#network.show(point, series);
    setText(element('in-use', HTMLElement), describe(point, series));
    setText(element('reason', HTMLElement), reason(selection, series, state));
  }

  /** Says why there is no result. */
  wait(text: string): void {
    this.#result.wait(text);
  }

  #drawFigures(): void {
    const { series } = this.#client ?? {};
    if (!this.#last) return;
    this.#result.show(this.#last);
    this.#figures.show(this.#last, series?.points[this.#last.point]?.accuracy, this.#history);
  }

  #drawTable(): void {
    if (this.#last) this.#stages.show(this.#last, this.#history);
    setText(element('session', HTMLElement), `${this.#session.count.toLocaleString('en')} frames measured.`);
  }
}
