import type { Reporter, Suite, TestCase } from '@playwright/test/reporter';

/** Ends the run with one line that programs can read. */
export default class Summary implements Reporter {
  #tests: TestCase[] = [];
  /** What failed outside of any test. */
  #errors = 0;

  onBegin(_config: unknown, suite: Suite): void {
    this.#tests = suite.allTests();
  }

  onError(): void {
    this.#errors += 1;
  }

  onEnd(): void {
    const count = (outcome: ReturnType<TestCase['outcome']>) =>
      this.#tests.filter((it) => it.outcome() === outcome).length;
    console.log(`${count('expected')} passed, ${count('unexpected') + count('flaky') + this.#errors} failed`);
  }

  printsToStdio(): boolean {
    return false;
  }
}
