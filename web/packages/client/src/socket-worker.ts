/** The entry of the web worker that holds the sockets: for each URL that it is sent, it leads a WebSocket to the port that came along. */

import type { SocketEvent, SocketRequest } from './sockets.js';

/** Codes of a connection that was closed as intended, and of one that did not come about: RFC 6455, section 7.4.1. */
const NORMAL = 1000;
const ABNORMAL = 1006;

self.onmessage = ({ data: url, ports: [port] }: MessageEvent<string>) => {
  if (!port) return;
  try {
    lead(new WebSocket(url), port);
  } catch {
    // Pages may be forbidden to connect there.
    tell(port, { type: 'close', code: ABNORMAL, reason: '' });
  }
};

function lead(socket: WebSocket, port: MessagePort): void {
  socket.binaryType = 'arraybuffer';
  socket.onopen = () => tell(port, { type: 'open', at: performance.now() });
  socket.onmessage = ({ data }: MessageEvent<unknown>) => {
    const event: SocketEvent = { type: 'message', data, at: performance.now() };
    tell(port, event, data instanceof ArrayBuffer ? [data] : []);
  };
  socket.onclose = ({ code, reason }) => tell(port, { type: 'close', code, reason });
  port.onmessage = ({ data: message }: MessageEvent<SocketRequest>) => {
    if (message) socket.send(message as Uint8Array<ArrayBuffer>);
    else end(socket, port);
  };
}

/** What was sent before still goes out. */
function end(socket: WebSocket, port: MessagePort): void {
  socket.onmessage = null;
  socket.onclose = null;
  socket.close();
  tell(port, { type: 'close', code: NORMAL, reason: '' });
  port.close();
}

function tell(port: MessagePort, event: SocketEvent, transfer: Transferable[] = []): void {
  port.postMessage(event, transfer);
}
