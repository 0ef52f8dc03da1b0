import type { SeriesSummary, SplitClient } from 'split-inference';

import { element, html } from '../dom.js';
import { bytes, count } from '../words.js';

/** The choice among the series that the edge worker serves. */
export class SeriesControls {
  readonly #choice = element('series-choice', HTMLElement);
  readonly #select = element('series', HTMLSelectElement);

  /** `onChoose` is told the name of another series. */
  constructor(onChoose: (series: string) => void) {
    this.#select.onchange = () => onChoose(this.#select.value);
  }

  /** Offers what the client's edge worker serves; with only one series there is nothing to choose. */
  async show(client: SplitClient): Promise<void> {
    const list = await client.seriesList();
    this.#select.replaceChildren(...list.map(option));
    this.#select.value = client.series.series;
    this.#choice.hidden = list.length < 2;
  }
}

function option({ series, classes, width, height, mostBytes }: SeriesSummary): HTMLOptionElement {
  const size = width === height ? `${width} px` : `${width} × ${height} px`;
  const what = [count(classes, 'class', 'classes'), size, `≤ ${bytes(mostBytes)}`];
  return html('option', { value: series }, `${series}: ${what.join(', ')}`);
}
