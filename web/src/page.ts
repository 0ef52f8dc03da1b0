import type { Result, Selection, SplitClient } from 'split-inference';

import { element, setText } from './dom.js';
import { History } from './history.js';
import type { Session } from './session.js';
import { calmly, paced } from './throttle.js';
import { ChartsView } from './views/charts.js';
import { ConnectionView } from './views/connection.js';
import { FiguresView } from './views/figures.js';
import { NetworkView } from './views/network.js';
import { ResultView } from './views/result.js';
import { StagesView } from './views/stages.js';
import { count, describe, imagesOf, reason } from './words.js';

/** What people look at. Faster, nobody reads figures; another label or operating point does not wait. */
const READOUT = { every: () => 200, share: 0.1, longest: 1000 };
const CHARTS = { every: calmly(500), share: 0.03, longest: 3000 };
const DETAILS = { every: calmly(1000), share: 0.03, longest: 3000 };

/** Everything that the page shows of client and results. */
export class Page {
  readonly connection = new ConnectionView();
  readonly #session: Session;
  readonly #history = new History();
  readonly #result = new ResultView();
  readonly #figures = new FiguresView();
  readonly #network = new NetworkView();
  readonly #stages = new StagesView();
  readonly #charts = new ChartsView(() => this.#showCharts());
  #client: SplitClient | undefined;
  /** The last result, and the one on screen. */
  #last: Result | undefined;
  #shown: Result | undefined;
  readonly #showReadout = paced(READOUT, () => this.#drawReadout());
  readonly #showCharts = paced(CHARTS, () => this.#charts.show(this.#history));
  readonly #showDetails = paced(DETAILS, () => this.#drawDetails());

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
    if (client.selection) this.select(client.selection);
  }

  /** Forgets what belongs to the client before. */
  clear(): void {
    this.#client = undefined;
    this.forget('Loading…');
  }

  /** Takes away what is of pictures that are no longer there, and says why there are none. */
  forget(text: string): void {
    this.#last = undefined;
    this.#shown = undefined;
    this.#history.clear();
    this.#result.clear(text);
    this.#figures.clear();
  }

  /** To be called once a second: without results, no frames are counted. */
  watch(): void {
    if (this.#shown) this.#figures.showRate(this.#history.framesPerSecond(performance.now()));
  }

  /** Shows a result. */
  show(result: Result): void {
    this.#last = result;
    this.#history.add(result, performance.now());
    this.#showReadout(result.label !== this.#shown?.label || result.point !== this.#shown.point);
    this.#showCharts();
    this.#showDetails();
  }

  /** Shows the operating point that will be used, and why; once there is a result, this is shown with a later one. */
  select(selection: Selection): void {
    if (this.#shown) this.#showDetails();
    else this.#showPoint(selection.point);
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
    this.#figures.show(result);
    this.#network.send(result.messageBytes);
    if (isOther) this.#showPoint(result.point);
  }

  #showPoint(index: number): void {
    const { series } = this.#client ?? {};
    const point = series?.points[index];
    if (!series || !point) return;
    this.#network.show(point, this.#shown?.messageBytes);
    this.#figures.showAccuracy(point.accuracy);
    setText(element('in-use', HTMLElement), describe(point, series));
    this.#showReason(index);
  }

  /** Why an operating point is in use. */
  #showReason(shown: number): void {
    const { series, state, selection } = this.#client ?? {};
    if (!series || !state || !selection) return;
    setText(element('reason', HTMLElement), reason(selection, { series, state, shown }));
  }

  /** What takes longer to read, of the result that is shown. */
  #drawDetails(): void {
    if (!this.#shown) return;
    this.#stages.show(this.#shown, this.#history);
    this.#showReason(this.#shown.point);
    setText(element('session', HTMLElement), `${count(this.#session.count, 'frame')} measured.`);
  }
}
