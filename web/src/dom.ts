/** The element of the page with this id. */
export function element<T extends Element>(id: string, type: abstract new () => T): T {
  const found = document.getElementById(id);
  if (found instanceof type) return found;
  throw new Error(`the page has no ${type.name} #${id}`);
}

/** Writes text where it differs, so that nothing is laid out or read out anew for nothing. */
export function setText(node: Element, text: string): void {
  const { firstChild } = node;
  // Another text in the same node costs less than another node.
  if (firstChild instanceof Text && !firstChild.nextSibling) {
    if (firstChild.data !== text) firstChild.data = text;
  } else if (node.textContent !== text) {
    node.textContent = text;
  }
}

/** Says whether an element is on the screen: what is folded, or scrolled away, need not be drawn. `changed` is called when that changes. */
export function sightOf(node: Element, changed: (isInSight: boolean) => void): () => boolean {
  let isInSight = false;
  const observer = new IntersectionObserver((entries) => {
    isInSight = entries.at(-1)?.isIntersecting ?? false;
    changed(isInSight);
  });
  observer.observe(node);
  return () => isInSight;
}

/** A new HTML element. */
export function html<Name extends keyof HTMLElementTagNameMap>(
  name: Name,
  properties: Partial<HTMLElementTagNameMap[Name]> = {},
  ...children: (Node | string)[]
): HTMLElementTagNameMap[Name] {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

/** A new SVG element. */
export function svg(
  name: keyof SVGElementTagNameMap,
  attributes: Record<string, string | number> = {},
  ...children: (Node | string)[]
): SVGElement {
  const made = document.createElementNS('http://www.w3.org/2000/svg', name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, `${value}`);
  made.append(...children);
  return made;
}
