import type { Source } from './source.js';

/** Draws a square at a time, in milliseconds; `isCalm` for those who prefer less motion. */
export type Painter = (context: CanvasRenderingContext2D, now: number, isCalm: boolean) => void;

/** A picture is drawn after this time at the earliest: as often as a camera gives one. */
const PICTURE_MS = 30;

/** A square that is drawn each time the page is painted. */
export function drawn(name: string, side: number, paint: Painter): Source {
  const canvas = document.createElement('canvas');
  canvas.width = side;
  canvas.height = side;
  const context = canvas.getContext('2d', { alpha: false });
  const calm = matchMedia('(prefers-reduced-motion: reduce)');
  let running = 0;
  let last = Number.NEGATIVE_INFINITY;
  const draw = (now: number) => {
    running = requestAnimationFrame(draw);
    if (now - last < PICTURE_MS) return;
    last = now;
    if (context) paint(context, now, calm.matches);
  };
  const pause = () => cancelAnimationFrame(running);
  const resume = () => {
    pause();
    draw(performance.now());
  };
  // The first picture is there at once: a canvas that nobody has drawn on is black.
  resume();
  return { name, element: canvas, still: false, pause, resume, close: pause };
}

/** A picture of a square that is drawn for it. */
export function pictureOf(side: number, paint: (context: CanvasRenderingContext2D) => void): Promise<ImageBitmap> {
  const canvas = document.createElement('canvas');
  canvas.width = side;
  canvas.height = side;
  const context = canvas.getContext('2d', { alpha: false });
  if (context) paint(context);
  return createImageBitmap(canvas);
}
