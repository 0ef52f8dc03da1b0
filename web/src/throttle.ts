/** How often something is drawn. */
export interface Pace {
  /** At most once in this time, in milliseconds. */
  every: () => number;
  /** Drawing takes at most so large a part of the page's time: a slow device has better things to do. */
  share: number;
  /** However long drawing takes, it is drawn after this time, in milliseconds: one slow painting says little about the next. */
  longest: number;
}

/** What is due waits so long for something else that is to be drawn: one painting costs less than two. */
const GRACE_MS = 100;

/**
 * Calls `work` just before the page is painted next if it is urgent or its time has come, else once that has come. The last call is never lost.
 *
 * What drawing costs is measured from there to the end of the painting, all that is drawn together with it included.
 */
export function paced({ every, share, longest }: Pace, work: () => void): (isUrgent?: boolean) => void {
  let last = Number.NEGATIVE_INFINITY;
  let cost = 0;
  let isDue = false;
  let timer: ReturnType<typeof setTimeout> | undefined;
  const run = () => {
    clearTimeout(timer);
    timer = undefined;
    isDue = false;
    last = performance.now();
    afterPainting(() => {
      cost = performance.now() - last;
    });
    work();
  };
  const paint = () => {
    if (!isDue) requestAnimationFrame(run);
    isDue = true;
  };
  return (isUrgent = false) => {
    const pause = Math.max(every(), Math.min(cost / share, longest));
    const wait = last + pause - performance.now();
    if (isUrgent || wait <= 0) paint();
    else timer ??= setTimeout(paint, wait + GRACE_MS);
  };
}

const painted = new MessageChannel();
const waiting: (() => void)[] = [];
painted.port1.onmessage = () => {
  for (const it of waiting.splice(0)) it();
};

/** Calls `work` when what was changed just before a painting has been laid out and painted: browsers handle messages after that. */
function afterPainting(work: () => void): void {
  if (waiting.push(work) === 1) painted.port2.postMessage(null);
}

/** Longer for those who prefer less motion. */
export function calmly(milliseconds: number): () => number {
  const calm = matchMedia('(prefers-reduced-motion: reduce)');
  return () => (calm.matches ? Math.max(1000, milliseconds) : milliseconds);
}
