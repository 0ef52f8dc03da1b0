import { element, html } from '../dom.js';
import { DEVICES, LINKS, PRESETS, type Slower } from '../slower.js';
import { bytes } from '../words.js';

/** The controls by which people make link and device slower than they are. */
export class SlowerControls {
  readonly #link = element('slower-link', HTMLSelectElement);
  readonly #device = element('slower-device', HTMLSelectElement);
  readonly #presets = PRESETS.map(({ name, link, device }) => {
    const slower = { link: LINKS.findIndex((it) => it.name === link), device };
    return { slower, button: html('button', { type: 'button', onclick: () => this.#choose(slower) }, name) };
  });
  readonly #onChange: (slower: Slower) => void;

  /** `onChange` is told what is to be slower from now on; `first` is what is slower at the start, if a link says so. */
  constructor(first: Slower | undefined, onChange: (slower: Slower) => void) {
    this.#onChange = onChange;
    this.#link.append(...LINKS.slice(1).map(linkOption));
    this.#device.append(...DEVICES.slice(1).map(deviceOption));
    element('presets', HTMLElement).append(...this.#presets.map((it) => it.button));
    for (const it of [this.#link, this.#device]) it.onchange = () => this.#changed();
    if (first) this.#set(first);
    this.#mark();
  }

  /** What the controls say. */
  get slower(): Slower {
    return { link: this.#link.selectedIndex, device: Number(this.#device.value) };
  }

  #choose(slower: Slower): void {
    this.#set(slower);
    this.#changed();
  }

  #set({ link, device }: Slower): void {
    this.#link.selectedIndex = link;
    this.#device.value = `${device}`;
  }

  #changed(): void {
    this.#mark();
    this.#onChange(this.slower);
  }

  /** Marks the preset that the selects are like. */
  #mark(): void {
    const { link, device } = this.slower;
    for (const { slower, button } of this.#presets) {
      button.ariaPressed = `${slower.link === link && slower.device === device}`;
    }
  }
}

function linkOption({ name, throttle }: (typeof LINKS)[number]): HTMLOptionElement {
  const about = throttle ? `: ${bytes(throttle.bytesPerSecond)} per second, ${throttle.roundTripMs} ms` : '';
  return html('option', { value: name }, `${name}${about}`);
}

function deviceOption(factor: number): HTMLOptionElement {
  return html('option', { value: `${factor}` }, `×${factor}: everything here takes ${factor} times as long`);
}
