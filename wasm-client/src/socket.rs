//! A binary WebSocket whose handler lives exactly as long as it does.

use std::{rc::Rc, time::Duration};

use js_sys::{ArrayBuffer, Uint8Array};
use wasm_bindgen::{JsCast, closure::Closure, prelude::wasm_bindgen};
use web_sys::{BinaryType, CloseEvent, MessageEvent, WebSocket};

#[wasm_bindgen(typescript_custom_section)]
const MESSAGE_SOCKET: &str = r"
/** What the client uses of a WebSocket. */
export interface MessageSocket {
  onopen: (() => void) | null;
  /** `timeStamp` is when the message arrived, in milliseconds on the client's clock. */
  onmessage: ((event: { data: unknown; timeStamp: number }) => void) | null;
  onclose: ((event: { code: number; reason: string }) => void) | null;
  send(message: Uint8Array): void;
  close(): void;
}
";

#[wasm_bindgen]
extern "C" {
    /// A WebSocket, or what acts like one because the real one lives elsewhere.
    #[wasm_bindgen(extends = WebSocket, typescript_type = "MessageSocket")]
    pub type MessageSocket;
}

/// What becomes of a connection.
pub(crate) enum SocketEvent {
    /// Messages can be sent.
    Open,
    /// A message, none if it was text, and when it arrived.
    Message(Option<Vec<u8>>, Duration),
    /// The end, with the code and the reason that the other side gave.
    Close(u16, String),
}

/// The WebSocket of one connection. Dropping it closes it, and nothing is reported afterwards.
pub(crate) struct Socket {
    socket: WebSocket,
    _open: Closure<dyn FnMut()>,
    _message: Closure<dyn FnMut(MessageEvent)>,
    _close: Closure<dyn FnMut(CloseEvent)>,
}

impl Socket {
    /// Takes a socket that is being opened. The handler is called later, never from within this call.
    pub(crate) fn new(socket: MessageSocket, handler: impl Fn(SocketEvent) + 'static) -> Self {
        let socket: WebSocket = socket.unchecked_into();
        socket.set_binary_type(BinaryType::Arraybuffer);
        let handler = Rc::new(handler);
        let [opening, receiving, closing] = [(); 3].map(|()| Rc::clone(&handler));
        let open = Closure::<dyn FnMut()>::new(move || opening(SocketEvent::Open));
        let message = Closure::<dyn FnMut(MessageEvent)>::new(move |event: MessageEvent| {
            let buffer = event.data().dyn_into::<ArrayBuffer>().ok();
            let at = Duration::try_from_secs_f64(event.time_stamp() / 1e3).unwrap_or_default();
            receiving(SocketEvent::Message(buffer.map(|it| Uint8Array::new(&it).to_vec()), at));
        });
        let close = Closure::<dyn FnMut(CloseEvent)>::new(move |event: CloseEvent| {
            closing(SocketEvent::Close(event.code(), event.reason()));
        });
        socket.set_onopen(Some(open.as_ref().unchecked_ref()));
        socket.set_onmessage(Some(message.as_ref().unchecked_ref()));
        socket.set_onclose(Some(close.as_ref().unchecked_ref()));
        Self {
            socket,
            _open: open,
            _message: message,
            _close: close,
        }
    }

    /// Queues one message. One that cannot be sent means a socket that is closing: its end is reported by itself.
    pub(crate) fn send(&self, message: &[u8]) {
        let _ = self.socket.send_with_u8_array(message);
    }

    /// Closes the connection; the handler is not called any more. May be called from within it.
    pub(crate) fn close(&self) {
        self.socket.set_onopen(None);
        self.socket.set_onmessage(None);
        self.socket.set_onclose(None);
        // Fails only for close codes out of range; none is given.
        let _ = self.socket.close();
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.close();
    }
}
