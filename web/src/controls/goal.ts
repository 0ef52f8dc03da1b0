import type { Goal, Series } from 'split-inference';

import { element, setText } from '../dom.js';
import { fillPoints } from './points.js';

type Among = 'all' | 'device' | 'edge' | 'split';

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
  /** The floor to start with, which the slider shows rounded. */
  #defaultFloor: number | undefined;

  /** `onChange` is told every new goal. */
  constructor(onChange: (goal: Goal) => void) {
    this.#onChange = onChange;
    this.#form.addEventListener('submit', (event) => event.preventDefault());
    this.#form.addEventListener('input', (event) => this.#changed(event.target));
    this.#showBounds();
  }

  /** Sets the controls to what a series has; what people chose before there was one stays. */
  show(series: Series, point: number | undefined): void {
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
    this.#point.value = point === undefined || this.#touched.size > 0 ? AUTO : `${point}`;
    this.#showBounds();
  }

  /** What the controls say. */
  get goal(): Goal {
    if (this.#point.value !== AUTO) return { kind: 'fixed', point: Number(this.#point.value) };
    const among = this.#among();
    return this.#checked('goal') === 'accuracy'
      ? { kind: 'highestAccuracy', atMost: this.#ceiling.valueAsNumber, among }
      : { kind: 'lowestLatency', atLeast: this.#atLeast(), among };
  }

  #changed(control: EventTarget | null): void {
    this.#touched.add(control);
    // Whoever moves a bound means that goal, and whoever changes a goal no longer wants the point chosen by hand.
    if (control === this.#floor) this.#check('goal', 'latency');
    if (control === this.#ceiling) this.#check('goal', 'accuracy');
    if (control !== this.#point) this.#point.value = AUTO;
    this.#showBounds();
    this.#onChange(this.goal);
  }

  #showBounds(): void {
    const goal = this.#checked('goal');
    for (const it of this.#form.querySelectorAll<HTMLElement>('.goal')) {
      it.classList.toggle('chosen', it.querySelector('input')?.value === goal && this.#point.value === AUTO);
    }
    const percent = `${this.#floor.valueAsNumber.toFixed(1)} %`;
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

  #among(): Among {
    const mode = this.#checked('mode');
    return mode === 'device' || mode === 'edge' || mode === 'split' ? mode : 'all';
  }

  #checked(name: string): string | undefined {
    return this.#form.querySelector<HTMLInputElement>(`input[name="${name}"]:checked`)?.value;
  }

  #check(name: string, value: string): void {
    const radio = this.#form.querySelector<HTMLInputElement>(`input[name="${name}"][value="${value}"]`);
    if (radio) radio.checked = true;
  }
}
