//! A binary WebSocket whose handler lives exactly as long as it does.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::Duration,
};

use js_sys::{ArrayBuffer, Uint8Array};
use wasm_bindgen::{JsCast, closure::Closure, prelude::wasm_bindgen};
use web_sys::{BinaryType, CloseEvent, MessageEvent, WebSocket};

use crate::{
    scope,
    throttle::{Lane, LinkThrottle},
};

#[wasm_bindgen(typescript_custom_section)]
const MESSAGE_SOCKET: &str = r"
/** What the client uses of a WebSocket. */
export interface MessageSocket {
  onopen: (() => void) | null;
  /** `timeStamp` is when the message arrived, in milliseconds since this web worker's time origin. */
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
    up: Rc<RefCell<Lane<Vec<u8>>>>,
    down: Rc<Down>,
    _open: Closure<dyn FnMut()>,
    _message: Closure<dyn FnMut(MessageEvent)>,
    _close: Closure<dyn FnMut(CloseEvent)>,
}

/// What the link is made like; none for as fast as it is.
pub(crate) type LinkSetting = Rc<Cell<Option<LinkThrottle>>>;

/// The way from the socket to its handler.
struct Down {
    link: LinkSetting,
    lane: RefCell<Lane<SocketEvent>>,
    handler: Box<dyn Fn(SocketEvent)>,
}

impl Socket {
    /// Takes a socket that is being opened. The handler is called later, never from within this call.
    pub(crate) fn new(socket: MessageSocket, link: LinkSetting, handler: impl Fn(SocketEvent) + 'static) -> Self {
        let socket: WebSocket = socket.unchecked_into();
        socket.set_binary_type(BinaryType::Arraybuffer);
        let down = Rc::new(Down {
            link,
            lane: RefCell::default(),
            handler: Box::new(handler),
        });
        let [opening, receiving, closing] = [(); 3].map(|()| Rc::clone(&down));
        let open = Closure::<dyn FnMut()>::new(move || deliver(&opening, scope::now(), 0, |_| SocketEvent::Open));
        let message = Closure::<dyn FnMut(MessageEvent)>::new(move |event: MessageEvent| {
            let buffer = event.data().dyn_into::<ArrayBuffer>().ok();
            let bytes = buffer.map(|it| Uint8Array::new(&it).to_vec());
            let length = bytes.as_ref().map_or(0, Vec::len);
            let at = Duration::try_from_secs_f64(event.time_stamp() / 1e3).unwrap_or_default();
            deliver(&receiving, at, length, |at| SocketEvent::Message(bytes, at));
        });
        let close = Closure::<dyn FnMut(CloseEvent)>::new(move |event: CloseEvent| {
            let (code, reason) = (event.code(), event.reason());
            deliver(&closing, scope::now(), 0, |_| SocketEvent::Close(code, reason));
        });
        socket.set_onopen(Some(open.as_ref().unchecked_ref()));
        socket.set_onmessage(Some(message.as_ref().unchecked_ref()));
        socket.set_onclose(Some(close.as_ref().unchecked_ref()));
        Self {
            socket,
            up: Rc::default(),
            down,
            _open: open,
            _message: message,
            _close: close,
        }
    }

    /// Queues one message. One that cannot be sent means a socket that is closing: its end is reported by itself.
    pub(crate) fn send(&self, message: &[u8]) {
        let delay = self
            .up
            .borrow_mut()
            .delay(self.down.link.get(), scope::now(), message.len());
        let Some(delay) = delay else {
            let _ = self.socket.send_with_u8_array(message);
            return;
        };
        self.up.borrow_mut().put(message.to_vec());
        let (socket, up) = (self.socket.clone(), Rc::downgrade(&self.up));
        scope::after(delay, move || {
            let next = up.upgrade().and_then(|it| it.borrow_mut().take());
            if let Some(message) = next {
                let _ = socket.send_with_u8_array(&message);
            }
        });
    }

    /// Closes the connection; the handler is not called any more. May be called from within it.
    pub(crate) fn close(&self) {
        self.socket.set_onopen(None);
        self.socket.set_onmessage(None);
        self.socket.set_onclose(None);
        self.up.borrow_mut().clear();
        self.down.lane.borrow_mut().clear();
        // Fails only for close codes out of range; none is given.
        let _ = self.socket.close();
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.close();
    }
}

/// Hands an event to the handler once it has arrived over the link: that which came to the socket `at`, or later where the link is made slower.
fn deliver(down: &Rc<Down>, at: Duration, bytes: usize, event: impl FnOnce(Duration) -> SocketEvent) {
    let Some(delay) = down.lane.borrow_mut().delay(down.link.get(), at, bytes) else {
        return (down.handler)(event(at));
    };
    let at = at + delay;
    down.lane.borrow_mut().put(event(at));
    let waiting = Rc::downgrade(down);
    scope::after(at.saturating_sub(scope::now()), move || {
        let Some(down) = waiting.upgrade() else { return };
        let next = down.lane.borrow_mut().take();
        if let Some(event) = next {
            (down.handler)(event);
        }
    });
}
