import { drawn, pictureOf } from './drawn.js';
import { SCENES, SIDE } from './scenes.js';
import type { Source } from './source.js';

/** How long each scene is shown. */
const SCENE_SECONDS = 5;

/** Scenes drawn here, so that there is something to see without a camera. Without motion for those who prefer that. */
export function openSample(): Source {
  const source = drawn('Drawn scenes: ship, airplane, automobile', SIDE, (context, now, isCalm) => {
    const seconds = now / 1000;
    const scene = SCENES[Math.floor(seconds / SCENE_SECONDS) % SCENES.length];
    scene?.(context, isCalm ? 0 : seconds);
  });
  const picture = (number: number) => pictureOf(SIDE, (context) => SCENES[number % SCENES.length]?.(context, number));
  return { ...source, picture };
}
