/** Whether a script, by its `import.meta.url`, is of another origin than the page. Some bundlers put a file's path there: that is not. */
export function isElsewhere(script: string): boolean {
  return /^https?:/.test(script) && new URL(script).origin !== location.origin;
}

/** Browsers start no web worker of another origin, but one of the page's own may import what another origin lets it read. */
export function startElsewhere(url: URL, options: WorkerOptions): Worker {
  if (url.origin === location.origin) return new Worker(url, options);
  const blob = new Blob([`import ${JSON.stringify(url.href)};`], { type: 'text/javascript' });
  return new Worker(URL.createObjectURL(blob), options);
}
