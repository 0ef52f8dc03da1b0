import type { Goal, Series } from 'split-inference';

import { element, setText } from '../dom.js';
import { MODES, type Mode } from '../mode.js';
import type { Wish } from '../options.js';
import { fillPoints } from './points.js';

/** Value of the select that leaves the choice to the goal. */
const AUTO = 'auto';

/** The controls by which people say how the operating point is chosen. */
export class GoalControls {
  readonly #form = element('controls', HTMLFormElement);
  readonly #floor = element('floor', HTMLInputElement);
  readonly #ceiling = element('ceiling', HTMLInputElement);
  readonly #point = element('point', HTMLSelectElement);
  readonly #onChange: (goal: Goal) => void;
  /** What people have changed, maybe before there was a series. */
  readonly #touched = new Set<EventTarget | null>();
  /** Whether people changed anything after the link was followed. */
  #isChanged = false;
  /** The operating point that a link asks for. */
  #wished: number | undefined;
  /** The floor to start with, which the slider shows rounded. */
  #defaultFloor: number | undefined;

  /** `onChange` is told every new goal. */
  constructor(onChange: (goal: Goal) => void) {
    this.#onChange = onChange;
    this.#form.addEventListener('submit', (event) => event.preventDefault());
    this.#form.addEventListener('input', (event) => this.#changed(event.target));
    this.#showBounds();
  }

  /** Sets the controls to what a link asks for. */
  wish({ goal, floor, ceiling, mode, point }: Partial<Wish>): void {
    if (goal) this.#check('goal', goal);
    if (mode && point === undefined) this.#check('mode', mode);
    for (const [control, value] of [
      [this.#floor, floor],
      [this.#ceiling, ceiling],
    ] as const) {
      if (value === undefined) continue;
      control.value = `${value}`;
      // As if it had been set here, before there was a series.
      this.#touched.add(control);
    }
    this.#wished = point;
    this.#showBounds();
  }

  /** Chooses among these ways of working. */
  among(mode: Mode): void {
    this.#check('mode', mode);
    this.#changed(this.#form);
  }

  /** Forgets what was said about operating points, for another series. */
  clear(): void {
    this.#touched.delete(this.#floor);
    this.#defaultFloor = undefined;
    this.#wished = undefined;
    this.#point.value = AUTO;
  }

  /** What the controls say, for a link. */
  get wished(): Wish {
    const goal = this.#checked('goal') === 'accuracy' ? 'accuracy' : 'latency';
    const { mode } = this;
    const [floor, ceiling] = [this.#floor, this.#ceiling];
    return {
      goal,
      mode,
      ...((goal === 'latency' || this.#touched.has(floor)) && { floor: floor.valueAsNumber }),
      ...((goal === 'accuracy' || this.#touched.has(ceiling)) && { ceiling: ceiling.valueAsNumber }),
      ...(this.#point.value !== AUTO && { point: Number(this.#point.value) }),
    };
  }

  /** Sets the controls to what a series has; what people chose before there was one stays. */
  show(series: Series): void {
    const point = this.#wished;
    const accuracies = series.points.map((it) => it.accuracy);
    this.#floor.min = `${Math.floor(Math.min(...accuracies))}`;
    // Rounded down, so that the most accurate point is always among those that will do.
    this.#floor.max = `${Math.floor(Math.max(...accuracies) * 10) / 10}`;
    const { defaultGoal } = series;
    if (defaultGoal.kind === 'lowestLatency' && !this.#touched.has(this.#floor)) {
      this.#defaultFloor = defaultGoal.atLeast;
      this.#floor.value = `${defaultGoal.atLeast}`;
    }
    fillPoints(this.#point, series);
    this.#point.value = point === undefined || this.#isChanged ? AUTO : `${point}`;
    this.#showBounds();
  }

  /** What is chosen among. */
  get mode(): Mode {
    return MODES.find((it) => it === this.#checked('mode')) ?? 'automatic';
  }

  /** What the controls say. */
  get goal(): Goal {
    if (this.#point.value !== AUTO) return { kind: 'fixed', point: Number(this.#point.value) };
    return this.goalAmong(this.mode);
  }

  /** The goal, among other points than those that the controls say. */
  goalAmong(mode: Mode): Goal {
    const among = mode === 'automatic' ? 'all' : mode;
    return this.#checked('goal') === 'accuracy'
      ? { kind: 'highestAccuracy', atMost: this.#ceiling.valueAsNumber, among }
      : { kind: 'lowestLatency', atLeast: this.#atLeast(), among };
  }

  #changed(control: EventTarget | null): void {
    this.#touched.add(control);
    this.#isChanged = true;
    // Whoever moves a bound means that goal, and whoever changes a goal no longer wants the point chosen by hand, nor the other way round.
    if (control === this.#floor) this.#check('goal', 'latency');
    if (control === this.#ceiling) this.#check('goal', 'accuracy');
    if (control !== this.#point) this.#point.value = AUTO;
    else if (this.#point.value !== AUTO) this.#check('mode', 'automatic');
    this.#showBounds();
    this.#onChange(this.goal);
  }

  #showBounds(): void {
    const goal = this.#checked('goal');
    for (const it of this.#form.querySelectorAll<HTMLElement>('.goal')) {
      it.classList.toggle('chosen', it.querySelector('input')?.value === goal && this.#point.value === AUTO);
    }
    const isKnown = this.#defaultFloor !== undefined || this.#touched.has(this.#floor);
    const percent = isKnown ? `${this.#floor.valueAsNumber.toFixed(1)} %` : '–';
    const milliseconds = `${this.#ceiling.value} ms`;
    setText(element('floor-value', HTMLElement), percent);
    setText(element('ceiling-value', HTMLElement), milliseconds);
    this.#floor.setAttribute('aria-valuetext', percent);
    this.#ceiling.setAttribute('aria-valuetext', milliseconds);
  }

  #atLeast(): number {
    const { valueAsNumber } = this.#floor;
    return this.#touched.has(this.#floor) ? valueAsNumber : (this.#defaultFloor ?? valueAsNumber);
  }

  #checked(name: string): string | undefined {
    return this.#form.querySelector<HTMLInputElement>(`input[name="${name}"]:checked`)?.value;
  }

  #check(name: string, value: string): void {
    const radio = this.#form.querySelector<HTMLInputElement>(`input[name="${name}"][value="${value}"]`);
    if (radio) radio.checked = true;
  }
}
