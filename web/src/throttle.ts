/** Calls `work` now if it was not called for so long, else once that time is over: the last call is never lost. */
export function throttled(milliseconds: () => number, work: () => void): () => void {
  let last = Number.NEGATIVE_INFINITY;
  let timer: ReturnType<typeof setTimeout> | undefined;
  const run = () => {
    timer = undefined;
    last = performance.now();
    work();
  };
  return () => {
    if (timer !== undefined) return;
    const wait = last + milliseconds() - performance.now();
    if (wait <= 0) run();
    else timer = setTimeout(run, wait);
  };
}

/** Longer for those who prefer less motion. */
export function calmly(milliseconds: number): () => number {
  const calm = matchMedia('(prefers-reduced-motion: reduce)');
  return () => (calm.matches ? Math.max(1000, milliseconds) : milliseconds);
}
