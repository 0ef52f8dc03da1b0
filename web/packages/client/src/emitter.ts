/** Listeners of named events. */
export class Emitter<Events> {
  readonly #listeners = new Map<keyof Events, Set<(event: never) => void>>();

  /** Adds a listener; returns what removes it again. */
  on<Name extends keyof Events>(name: Name, listener: (event: Events[Name]) => void): () => void {
    const listeners = this.#listeners.get(name) ?? new Set();
    this.#listeners.set(name, listeners);
    // The same function added twice is two listeners, each with its own way out.
    const own = (event: Events[Name]) => listener(event);
    listeners.add(own);
    return () => listeners.delete(own);
  }

  /** Tells all listeners. What one of them throws is reported as an error of the page and stops nobody else. */
  emit<Name extends keyof Events>(name: Name, event: Events[Name]): void {
    for (const listener of [...(this.#listeners.get(name) ?? [])]) {
      try {
        (listener as (event: Events[Name]) => void)(event);
      } catch (thrown) {
        reportError(thrown);
      }
    }
  }
}
