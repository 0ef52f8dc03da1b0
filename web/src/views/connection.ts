import type { Progress, StateChange } from 'split-inference';

import { element, setText } from '../dom.js';
import { bytes } from '../words.js';

/** How long the end of a download is shown. */
const HIDE_MS = 600;

/** Whether there is a connection, and what is being downloaded. */
export class ConnectionView {
  readonly #state = element('state', HTMLElement);
  readonly #detail = element('state-detail', HTMLElement);
  readonly #slower = element('slower', HTMLElement);
  readonly #loading = element('loading', HTMLElement);
  readonly #progress = element('progress', HTMLProgressElement);
  readonly #label = element('progress-label', HTMLElement);
  #countdown: ReturnType<typeof setInterval> | undefined;
  #hide: ReturnType<typeof setTimeout> | undefined;

  /** Whether something is being downloaded. */
  get isLoading(): boolean {
    return !this.#loading.hidden;
  }

  /** Shows a change of the connection. */
  show({ state, retryMs }: StateChange): void {
    clearInterval(this.#countdown);
    // A client that is closed has no connection any more.
    const shown = state === 'closed' ? 'offline' : state;
    setText(this.#state, shown);
    this.#state.dataset.state = shown;
    setText(this.#detail, '');
    if (retryMs !== undefined) this.#count(performance.now() + retryMs);
  }

  /** Says what is made slower on purpose; nothing if it is empty. */
  slow(words: string): void {
    setText(this.#slower, words);
    this.#slower.hidden = words === '';
  }

  /** Shows how far a download is. */
  load({ stage, loadedBytes, totalBytes }: Progress): void {
    const what = stage === 'program' ? 'Loading the program' : 'Loading the network';
    const known = totalBytes > 0;
    setText(
      this.#label,
      known ? `${what}, ${bytes(loadedBytes)} of ${bytes(totalBytes)}` : `${what}, ${bytes(loadedBytes)}`,
    );
    if (known) this.#progress.value = loadedBytes / totalBytes;
    else this.#progress.removeAttribute('value');
    this.#loading.hidden = false;
    clearTimeout(this.#hide);
    if (known && loadedBytes >= totalBytes) this.#hide = setTimeout(() => this.loaded(), HIDE_MS);
  }

  /** Nothing is being downloaded any more. */
  loaded(): void {
    this.#loading.hidden = true;
  }

  #count(until: number): void {
    const tick = () => {
      const seconds = Math.max(0, Math.ceil((until - performance.now()) / 1000));
      setText(this.#detail, `connecting again in ${seconds} s`);
    };
    tick();
    this.#countdown = setInterval(tick, 1000);
  }
}
