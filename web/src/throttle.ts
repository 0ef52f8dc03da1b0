/**
 * Drawing takes at most so large a part of the page's time: a slow device has better things to do. The browser's other threads, which
 * bring to the screen what was drawn, take about as much again.
 */
const SHARE = 0.03;
/** What changes with every result has a larger part: it is what people look at. */
const READOUT_SHARE = 0.2;
/** However slow the device is, a result is shown after this time. */
const LONGEST_READOUT_MS = 500;
/** One slow paint says little about the next: after this time, charts are drawn whatever the last drawing took. */
const LONGEST_WAIT_MS = 2000;

/**
 * Calls `work` when the page is painted next if it is urgent or was not called for this long, else once that time is over. The last call
 * is never lost, and what other drawing takes never adds to the wait. Where drawing takes long, what is not urgent is drawn less often.
 */
export function paced(milliseconds: number, work: () => void): (isUrgent: boolean) => void {
  let last = Number.NEGATIVE_INFINITY;
  let cost = 0;
  let isDue = false;
  let timer: ReturnType<typeof setTimeout> | undefined;
  const run = () => {
    clearTimeout(timer);
    timer = undefined;
    isDue = false;
    last = performance.now();
    work();
    // This runs just before the page is painted: when messages are handled next, that is done.
    nextTask(() => {
      cost = performance.now() - last;
    });
  };
  const paint = () => {
    if (!isDue) requestAnimationFrame(run);
    isDue = true;
  };
  return (isUrgent) => {
    const pause = Math.max(milliseconds, Math.min(cost / READOUT_SHARE, LONGEST_READOUT_MS));
    const wait = last + pause - performance.now();
    if (isUrgent || wait <= 0) paint();
    else timer ??= setTimeout(paint, wait);
  };
}

/**
 * Calls `work` now if it was not called for so long, else once that time is over: the last call is never lost. What it draws is
 * counted, too: on a slow device it is called less often, but never less than every two seconds.
 */
export function throttled(milliseconds: () => number, work: () => void): () => void {
  let last = Number.NEGATIVE_INFINITY;
  let cost = 0;
  let timer: ReturnType<typeof setTimeout> | undefined;
  const run = () => {
    timer = undefined;
    last = performance.now();
    work();
    let worked = 0;
    // Browsers fill the pixels of a canvas when the task that drew on it is over: what that took is known in the next one.
    nextTask(() => {
      worked = performance.now() - last;
    });
    painted((took) => {
      cost = worked + took;
    });
  };
  return () => {
    if (timer !== undefined) return;
    const pause = Math.max(milliseconds(), Math.min(cost / SHARE, LONGEST_WAIT_MS));
    const wait = last + pause - performance.now();
    if (wait <= 0) run();
    else timer = setTimeout(run, wait);
  };
}

/** Tells how long the page took to lay out and paint what has been changed. */
function painted(tell: (milliseconds: number) => void): void {
  requestAnimationFrame(() => {
    const began = performance.now();
    // Browsers paint after the callbacks of a frame, and handle messages after that.
    nextTask(() => tell(performance.now() - began));
  });
}

function nextTask(work: () => void): void {
  const { port1, port2 } = new MessageChannel();
  port1.onmessage = () => {
    port1.close();
    work();
  };
  port2.postMessage(null);
}

/** Longer for those who prefer less motion. */
export function calmly(milliseconds: number): () => number {
  const calm = matchMedia('(prefers-reduced-motion: reduce)');
  return () => (calm.matches ? Math.max(1000, milliseconds) : milliseconds);
}
