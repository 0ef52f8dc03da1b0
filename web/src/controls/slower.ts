import { element, html } from '../dom.js';
import type { Mode } from '../mode.js';
import { DEVICES, LINKS, PRESETS, type Slower } from '../slower.js';
import { bytes } from '../words.js';

interface Preset {
  slower: Slower;
  mode: Mode | undefined;
}

/** The controls by which people make link and device slower than they are. */
export class SlowerControls {
  readonly #link = element('slower-link', HTMLSelectElement);
  readonly #device = element('slower-device', HTMLSelectElement);
  readonly #presets = PRESETS.map(({ name, link, device, mode }) => {
    const slower = { link: LINKS.findIndex((it) => it.name === link), device };
    const preset = { slower, mode, button: html('button', { type: 'button' }, name) };
    preset.button.onclick = () => this.#choose(preset);
    return preset;
  });
  readonly #onChange: (slower: Slower, mode?: Mode) => void;
  /** What is chosen among now. */
  #mode: Mode = 'automatic';

  /**
   * `onChange` is told what is to be slower from now on, and what to choose among if a preset says so; `first` is what is slower at the start,
   * if a link says so.
   */
  constructor(first: Slower | undefined, onChange: (slower: Slower, mode?: Mode) => void) {
    this.#onChange = onChange;
    this.#link.append(...LINKS.slice(1).map(linkOption));
    this.#device.append(...DEVICES.slice(1).map(deviceOption));
    element('presets', HTMLElement).append(...this.#presets.map((it) => it.button));
    for (const it of [this.#link, this.#device]) it.onchange = () => this.#changed();
    if (first) this.#set(first);
  }

  /** Marks the preset that the controls are like, with this choice of ways of working. */
  mark(mode: Mode): void {
    this.#mode = mode;
    for (const it of this.#presets) it.button.ariaPressed = `${it === this.#preset}`;
  }

  /** What the controls say. */
  get slower(): Slower {
    return { link: this.#link.selectedIndex, device: Number(this.#device.value) };
  }

  #choose({ slower, mode }: Preset): void {
    // What a preset chose among ends with it.
    const among = mode ?? (this.#preset?.mode && 'automatic');
    this.#set(slower);
    this.#changed(among);
  }

  #set({ link, device }: Slower): void {
    this.#link.selectedIndex = link;
    this.#device.value = `${device}`;
  }

  #changed(mode?: Mode): void {
    this.#onChange(this.slower, mode);
    this.mark(mode ?? this.#mode);
  }

  get #preset(): Preset | undefined {
    const { link, device } = this.slower;
    return this.#presets.find(
      ({ slower, mode = this.#mode }) => slower.link === link && slower.device === device && mode === this.#mode,
    );
  }
}

function linkOption({ name, throttle }: (typeof LINKS)[number]): HTMLOptionElement {
  const about = throttle ? `: ${bytes(throttle.bytesPerSecond)} per second, ${throttle.roundTripMs} ms` : '';
  return html('option', { value: name }, `${name}${about}`);
}

function deviceOption(factor: number): HTMLOptionElement {
  return html('option', { value: `${factor}` }, `×${factor}: everything here takes ${factor} times as long`);
}
