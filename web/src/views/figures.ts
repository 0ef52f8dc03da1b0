import type { Result } from 'split-inference';

import { element, setText } from '../dom.js';
import type { History } from '../history.js';
import { milliseconds } from '../words.js';

/** The figures of the last frame. */
export class FiguresView {
  readonly #latency = element('latency', HTMLElement);
  readonly #bytes = element('bytes', HTMLElement);
  readonly #accuracy = element('accuracy', HTMLElement);
  readonly #rate = element('rate', HTMLElement);

  /** Shows what a frame took, and how many there are in a second. */
  show({ timings, messageBytes }: Result, accuracy: number | undefined, history: History): void {
    setText(this.#latency, milliseconds(timings.total));
    setText(this.#bytes, messageBytes.toLocaleString('en'));
    if (accuracy !== undefined) setText(this.#accuracy, accuracy.toFixed(1));
    setText(this.#rate, history.framesPerSecond(performance.now()).toFixed(0));
  }
}
