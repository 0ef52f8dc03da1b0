//! A binary WebSocket whose handler lives exactly as long as it does.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

use js_sys::{ArrayBuffer, Uint8Array};
use wasm_bindgen::{JsCast, JsValue, closure::Closure};
use web_sys::{BinaryType, CloseEvent, MessageEvent, WebSocket};

use crate::{
    scope,
    throttle::{Lane, LinkThrottle},
};

/// What becomes of a connection.
pub(crate) enum SocketEvent {
    /// Messages can be sent.
    Open,
    /// A message; none if it was text.
    Message(Option<Vec<u8>>),
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
    /// Starts connecting. The handler is called later, never from within this call.
    pub(crate) fn open(url: &str, link: LinkSetting, handler: impl Fn(SocketEvent) + 'static) -> Result<Self, JsValue> {
        let socket = WebSocket::new(url)?;
        socket.set_binary_type(BinaryType::Arraybuffer);
        let down = Rc::new(Down {
            link,
            lane: RefCell::default(),
            handler: Box::new(handler),
        });
        let [opening, receiving, closing] = [(); 3].map(|()| Rc::clone(&down));
        let open = Closure::<dyn FnMut()>::new(move || deliver(&opening, SocketEvent::Open, 0));
        let message = Closure::<dyn FnMut(MessageEvent)>::new(move |event: MessageEvent| {
            let buffer = event.data().dyn_into::<ArrayBuffer>().ok();
            let bytes = buffer.map(|it| Uint8Array::new(&it).to_vec());
            let length = bytes.as_ref().map_or(0, Vec::len);
            deliver(&receiving, SocketEvent::Message(bytes), length);
        });
        let close = Closure::<dyn FnMut(CloseEvent)>::new(move |event: CloseEvent| {
            deliver(&closing, SocketEvent::Close(event.code(), event.reason()), 0);
        });
        socket.set_onopen(Some(open.as_ref().unchecked_ref()));
        socket.set_onmessage(Some(message.as_ref().unchecked_ref()));
        socket.set_onclose(Some(close.as_ref().unchecked_ref()));
        Ok(Self {
            socket,
            up: Rc::default(),
            down,
            _open: open,
            _message: message,
            _close: close,
        })
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

/// Hands an event to the handler once it has arrived over the link.
fn deliver(down: &Rc<Down>, event: SocketEvent, bytes: usize) {
    let delay = down.lane.borrow_mut().delay(down.link.get(), scope::now(), bytes);
    let Some(delay) = delay else {
        return (down.handler)(event);
    };
    down.lane.borrow_mut().put(event);
    let waiting = Rc::downgrade(down);
    scope::after(delay, move || {
        let Some(down) = waiting.upgrade() else { return };
        let next = down.lane.borrow_mut().take();
        if let Some(event) = next {
            (down.handler)(event);
        }
    });
}
