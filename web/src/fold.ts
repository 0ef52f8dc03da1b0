import { element } from './dom.js';

/** From this width on there are two columns, as in the style sheet. */
const WIDE = '(min-width: 56.25em)';

/** Folds the panels on narrow screens; on wide ones they are open, and those that explain the picture stand under it. */
export function arrange(): void {
  const wide = matchMedia(WIDE);
  const panels = document.querySelectorAll<HTMLDetailsElement>('details[data-fold]');
  const left = document.querySelectorAll('[data-left]');
  const apply = () => {
    element(wide.matches ? 'seeing' : 'measuring', HTMLElement).append(...left);
    for (const it of panels) it.open = wide.matches;
  };
  wide.addEventListener('change', apply);
  apply();
}
