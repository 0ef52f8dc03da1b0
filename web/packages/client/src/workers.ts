import { aborted, SplitError } from './errors.js';

/** How long to wait for a web worker to start before another one is started beside it. */
const START_MS = 5000;
/** How many more are started at most. */
const MORE_STARTS = 2;

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

/**
 * Starts a web worker, and settles once it has said something.
 *
 * Firefox sometimes never starts one, without an error, after another was ended while it was loading. So more are started beside one
 * that takes long; the first to speak is kept.
 *
 * @throws {@link SplitError} `worker-failed`: its script cannot be loaded. `aborted`: `signal` fired.
 */
export async function startSpeaking(start: () => Worker, signal?: AbortSignal): Promise<Worker> {
  const workers: Worker[] = [];
  const over = new AbortController();
  let kept: Worker | undefined;
  try {
    kept = await new Promise<Worker>((resolve, reject) => {
      const begin = () => {
        const worker = start();
        workers.push(worker);
        worker.onmessage = () => resolve(worker);
        worker.onerror = (event) => reject(failed(event));
      };
      const timer = setInterval(() => workers.length <= MORE_STARTS && begin(), START_MS);
      over.signal.addEventListener('abort', () => clearInterval(timer));
      signal?.addEventListener('abort', () => reject(aborted(signal)), { signal: over.signal });
      begin();
    });
    return kept;
  } finally {
    over.abort();
    for (const worker of workers) if (worker !== kept) worker.terminate();
  }
}

/** Why a web worker failed. The browser need not say it, too. */
export function failed(event: ErrorEvent): SplitError {
  event.preventDefault();
  return new SplitError('worker-failed', `the web worker failed: ${event.message || 'its script cannot be loaded'}`);
}
