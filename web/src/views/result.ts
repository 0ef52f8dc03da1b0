import type { Result } from 'split-inference';

import { element, html, setText } from '../dom.js';
import { paced } from '../throttle.js';

/** How many classes are shown as bars. */
const BARS = 3;
/** Below this probability, the label is more likely wrong than right. */
const SURE = 0.5;
/** Longer labels, in characters, are written smaller. */
const LARGE = 15;
/** An answer that took longer says so, in milliseconds. */
const OLD_MS = 1000;
/** How often a screen reader is told, at most. */
const TELL_MS = 2000;

/** Label, probability and the most likely classes. */
export class ResultView {
  readonly #answer = element('answer', HTMLElement);
  readonly #label = element('label', HTMLElement);
  readonly #probability = element('probability', HTMLElement);
  readonly #runnerUp = element('runner-up', HTMLElement);
  readonly #age = element('age', HTMLElement);
  readonly #bars = element('top', HTMLElement);
  readonly #seen = element('seen', HTMLCanvasElement);
  readonly #announcement = element('announcement', HTMLElement);
  #result: Result | undefined;
  #told = '';
  /** Only another label, or doubt about it, is told: probabilities change all the time. */
  readonly #tell = paced({ every: () => TELL_MS, share: 1, longest: TELL_MS }, () => {
    if (!this.#result || gist(this.#result) === this.#told) return;
    this.#told = gist(this.#result);
    setText(this.#announcement, inWords(this.#result));
  });

  /** Says why there is no result yet. */
  wait(text: string): void {
    if (!this.#result) this.#showLabel(text);
  }

  /** Takes the result away, and says why there is none. */
  clear(text: string): void {
    this.#result = undefined;
    this.#setState('waiting');
    for (const it of [this.#probability, this.#bars]) it.replaceChildren();
    for (const it of [this.#age, this.#seen]) it.hidden = true;
    this.wait(text);
  }

  /** Shows a result. */
  show(result: Result): void {
    this.#result = result;
    const { label, probability } = result;
    this.#showLabel(label);
    setText(this.#probability, percentage(probability));
    this.#showDoubt(result);
    this.#showAge(result.timings.total);
    this.#showBars(result.top.slice(0, BARS));
    if (result.pixels) this.#showPixels(result.pixels);
    if (gist(result) !== this.#told) this.#tell();
  }

  /** Long names are written smaller: the answer always takes the same room. */
  #showLabel(text: string): void {
    if (this.#label.textContent === text) return;
    this.#label.dataset.size = text.length <= LARGE ? 'large' : 'small';
    setText(this.#label, text);
  }

  #showDoubt({ probability, top: [, second] }: Result): void {
    const isUnsure = probability < SURE;
    if (isUnsure && second) setText(this.#runnerUp, `or ${second.label}, ${percentage(second.probability)}`);
    this.#setState(isUnsure ? 'doubtful' : '');
  }

  /** What is seen may be another picture by now. */
  #showAge(milliseconds: number): void {
    const isOld = milliseconds >= OLD_MS;
    if (this.#age.hidden === isOld) this.#age.hidden = !isOld;
    if (isOld) setText(this.#age, `The answer is for the picture ${(milliseconds / 1000).toFixed(1)} s earlier`);
  }

  #setState(state: 'waiting' | 'doubtful' | ''): void {
    const name = `answer ${state}`;
    if (this.#answer.className !== name) this.#answer.className = name;
  }

  #showBars(classes: Result['top']): void {
    while (this.#bars.children.length > classes.length) this.#bars.lastElementChild?.remove();
    classes.forEach(({ label, probability }, at) => {
      const bar = this.#bars.children[at] ?? this.#bars.appendChild(emptyBar());
      const [name, meter, value] = bar.children;
      if (name) setText(name, label);
      if (meter instanceof HTMLElement) meter.style.backgroundSize = `${(100 * probability).toFixed(1)}% 100%`;
      if (value) setText(value, percentage(probability));
    });
  }

  #showPixels(pixels: ImageData): void {
    if (this.#seen.width !== pixels.width || this.#seen.height !== pixels.height) {
      this.#seen.width = pixels.width;
      this.#seen.height = pixels.height;
    }
    this.#seen.hidden = false;
    this.#seen.getContext('2d')?.putImageData(pixels, 0, 0);
  }
}

/** What makes it worth telling a result. */
function gist({ label, probability }: Result): string {
  return probability < SURE ? `not sure: ${label}` : label;
}

/** A result for those who hear it. */
function inWords({ label, probability, top: [, second] }: Result): string {
  const said = (label: string, probability: number) => `${label}, ${Math.round(100 * probability)} percent`;
  if (probability >= SURE || !second) return said(label, probability);
  return `Not sure: ${said(label, probability)}, or ${said(second.label, second.probability)}`;
}

function emptyBar(): HTMLElement {
  const cells = ['bar-name', 'bar', 'bar-value'].map((className) => html('span', { className }));
  return html('li', {}, ...cells);
}

function percentage(probability: number): string {
  return `${(100 * probability).toFixed(1)} %`;
}
