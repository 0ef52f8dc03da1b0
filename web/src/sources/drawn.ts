import type { Source } from './source.js';

/** Draws a square at a time, in milliseconds; `isCalm` for those who prefer less motion. */
export type Painter = (context: CanvasRenderingContext2D, now: number, isCalm: boolean) => void;

/** A square that is drawn each time the page is painted. */
export function drawn(name: string, side: number, paint: Painter): Source {
  const canvas = document.createElement('canvas');
  canvas.width = side;
  canvas.height = side;
  const context = canvas.getContext('2d', { alpha: false });
  const calm = matchMedia('(prefers-reduced-motion: reduce)');
  let running = 0;
  const draw = (now: number) => {
    running = requestAnimationFrame(draw);
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
