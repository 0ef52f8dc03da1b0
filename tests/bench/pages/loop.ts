// A loop about as long as a head, once every few milliseconds, as frames come.

/** Steps of the loop: about a millisecond on the machine of the reference figures. */
const STEPS = 1_000_000;
const RUNS = 60;
const PAUSE_MS = 16;

function loop(): number {
  let x = 1;
  for (let at = 0; at < STEPS; at += 1) x = (Math.imul(x, 1_664_525) + 1_013_904_223) | 0;
  return x;
}

async function run(): Promise<void> {
  const times: number[] = [];
  for (let at = 0; at < RUNS; at += 1) {
    const began = performance.now();
    const x = loop();
    times.push(performance.now() - began + (x === 0 ? 1e-9 : 0));
    await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
  }
  // The first runs are those of the interpreter.
  self.postMessage(times.slice(RUNS / 3));
}

void run();
