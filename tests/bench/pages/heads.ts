// Lets the benchmark ask a web worker, so that the page's own thread has no part in what is measured.

import type { Request, Response } from './heads-worker.js';

declare global {
  var ask: <T extends Request['type']>(request: Extract<Request, { type: T }>) => Promise<Response[T]>;
}

const worker = new Worker('/pages/heads-worker.js', { type: 'module' });

globalThis.ask = (request) =>
  new Promise((resolve, reject) => {
    worker.onmessage = ({ data }) => ('error' in data ? reject(new Error(data.error)) : resolve(data.answer));
    worker.onerror = (event) => reject(new Error(event.message));
    worker.postMessage(request);
  });
