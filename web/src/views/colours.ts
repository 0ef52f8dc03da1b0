let style: CSSStyleDeclaration | undefined;

/** A colour of the style sheet as it is now, light or dark: canvases do not know its variables. */
export function colour(name: string): string {
  // Stays up to date by itself.
  style ??= getComputedStyle(document.documentElement);
  return style.getPropertyValue(name).trim();
}
