/** The web worker's entry: passes on what the page says. */

import { asSplitError } from './errors.js';
import type { Request, Response } from './protocol.js';
import { Service } from './service.js';

let service: Service | undefined;

self.onmessage = async ({ data }: MessageEvent<Request>) => {
  switch (data.type) {
    case 'start':
      service = await start(data);
      break;
    case 'close':
      await close();
      break;
    default:
      service?.take(data);
  }
};

async function start(request: Extract<Request, { type: 'start' }>): Promise<Service | undefined> {
  try {
    return await Service.start(request, post);
  } catch (thrown) {
    const { code, message } = asSplitError(thrown);
    post({ type: 'failed', code, message });
    return undefined;
  }
}

/** In Chromium a web worker that closes itself while it has another one sometimes stays for ever: the page ends it. */
async function close(): Promise<void> {
  try {
    await service?.close();
  } finally {
    post({ type: 'closed' });
  }
}

function post(response: Response): void {
  self.postMessage(response);
}

post({ type: 'started' });
