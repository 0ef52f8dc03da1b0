import { element, html } from '../dom.js';
import { LINKS, type Slower } from '../slower.js';
import { bytes } from '../words.js';

/** The controls by which people make link and device slower than they are. */
export class SlowerControls {
  readonly #link = element('slower-link', HTMLSelectElement);
  readonly #device = element('slower-device', HTMLSelectElement);

  /** `onChange` is told what is to be slower from now on. */
  constructor(onChange: (slower: Slower) => void) {
    this.#link.append(...LINKS.slice(1).map(option));
    for (const it of [this.#link, this.#device]) it.onchange = () => onChange(this.slower);
  }

  /** What the controls say. */
  get slower(): Slower {
    return { link: this.#link.selectedIndex, device: Number(this.#device.value) };
  }
}

function option({ name, throttle }: (typeof LINKS)[number]): HTMLOptionElement {
  const about = throttle ? `: ${bytes(throttle.bytesPerSecond)} per second, ${throttle.roundTripMs} ms` : '';
  return html('option', { value: name }, `${name}${about}`);
}
