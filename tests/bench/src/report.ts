import { mkdir, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';

interface Goal {
  name: string;
  value: number;
  goal: number;
  sense: 'at_least' | 'at_most';
}

/** Goals and raw rows of one run. */
export class Report {
  readonly #goals: Goal[] = [];
  readonly #rows: object[] = [];

  /** Notes a raw row. */
  row(row: object): void {
    this.#rows.push(row);
  }

  /** Prints and notes a number that should not be smaller. */
  atLeast(name: string, value: number, goal: number): void {
    this.#goal({ name, value, goal, sense: 'at_least' });
  }

  /** Prints and notes a number that should not be larger. */
  atMost(name: string, value: number, goal: number): void {
    this.#goal({ name, value, goal, sense: 'at_most' });
  }

  #goal(goal: Goal): void {
    const met = goal.sense === 'at_least' ? goal.value >= goal.goal : goal.value <= goal.goal;
    const verdict = `${goal.sense.replace('_', ' ')} ${goal.goal}: ${met ? 'met' : 'MISSED'}`;
    console.log(`${goal.name.padEnd(72)} ${goal.value.toFixed(3).padStart(10)} ${verdict}`);
    this.#goals.push(goal);
  }

  async write(path: string): Promise<void> {
    await mkdir(dirname(path), { recursive: true });
    await writeFile(path, `${JSON.stringify({ goals: this.#goals, rows: this.#rows }, null, 2)}\n`);
  }
}

/** Prints rows in columns, the first to the left, the others to the right. */
export function printTable(heading: string[], rows: string[][]): void {
  const all = [heading, ...rows];
  const widths = heading.map((_, column) => Math.max(...all.map((row) => row[column]?.length ?? 0)));
  for (const row of all) {
    const cells = row.map((cell, at) => (at === 0 ? cell.padEnd(widths[at] ?? 0) : cell.padStart(widths[at] ?? 0)));
    console.log(cells.join('  ').trimEnd());
  }
}
