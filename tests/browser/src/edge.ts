import { PAGE } from './places.js';
import { Server } from './programs.js';

/** Starts an edge worker that serves a series and a page, on any free port or where another one was. */
export function startEdge(
  series: string,
  { web = PAGE, listen = '127.0.0.1:0', args = [] as string[] } = {},
): Promise<Server> {
  const settings = ['--models', series, '--web', web, '--listen', listen, '--log-filter', 'error'];
  return Server.start('edge-worker', [...settings, ...args]);
}
