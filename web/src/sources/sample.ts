import { SCENES, SIDE } from './scenes.js';
import type { Source } from './source.js';

/** How long each scene is shown. */
const SCENE_SECONDS = 5;

/** Scenes drawn here, so that there is something to see without a camera. Without motion for those who prefer that. */
export function openSample(): Source {
  const canvas = document.createElement('canvas');
  canvas.width = SIDE;
  canvas.height = SIDE;
  const context = canvas.getContext('2d', { alpha: false });
  const calm = matchMedia('(prefers-reduced-motion: reduce)');
  let running = 0;

  const draw = (now: number) => {
    running = requestAnimationFrame(draw);
    const seconds = now / 1000;
    const scene = SCENES[Math.floor(seconds / SCENE_SECONDS) % SCENES.length];
    if (context) scene?.(context, calm.matches ? 0 : seconds);
  };
  const pause = () => cancelAnimationFrame(running);
  // The first picture is there at once: a canvas that nobody has drawn on is black.
  draw(performance.now());
  return {
    name: 'Drawn scenes: ship, airplane, automobile',
    element: canvas,
    still: false,
    pause,
    resume: () => {
      pause();
      draw(performance.now());
    },
    close: pause,
  };
}
