import type { Result } from 'split-inference';

import { element, setText } from '../dom.js';
import { milliseconds, number } from '../words.js';

/** The figures of the last frame. */
export class FiguresView {
  readonly #latency = element('latency', HTMLElement);
  readonly #bytes = element('bytes', HTMLElement);
  readonly #accuracy = element('accuracy', HTMLElement);
  readonly #rate = element('rate', HTMLElement);

  /** Takes away what is of a frame. */
  clear(): void {
    for (const it of [this.#latency, this.#bytes, this.#rate]) setText(it, '–');
  }

  /** Shows what a frame took. */
  show({ timings, messageBytes }: Result): void {
    setText(this.#latency, milliseconds(timings.total));
    setText(this.#bytes, number(messageBytes));
  }

  /** Shows how many frames there are in a second. */
  showRate(framesPerSecond: number): void {
    setText(this.#rate, framesPerSecond.toFixed(0));
  }

  /** Shows how often the network in use is right, in percent. */
  showAccuracy(accuracy: number): void {
    setText(this.#accuracy, accuracy.toFixed(1));
  }
}
