//! The class that JavaScript sees.

use std::{cell::RefCell, rc::Rc, time::Duration};

use js_sys::{Function, Object, Reflect, Uint8ClampedArray};
use serde_json::{Value, json};
use split_core::{
    Digest,
    manifest::ImageFormat,
    wire::{CLOSE_MOVED, ClientMessage},
};
use split_runtime::warm_up;
use wasm_bindgen::{JsValue, prelude::wasm_bindgen};

use crate::{
    connection::Notice,
    engine::{Engine, Step},
    error::{ClientError, may_retry},
    pictures::Pictures,
    socket::{MessageSocket, Socket, SocketEvent},
    timing::Clock,
    view,
};

/// Code of the error that follows when a connection ends without a reason that the protocol gives.
const CONNECTION_LOST: &str = "connection-lost";

/// One client of one edge worker, to be used in a web worker.
///
/// Frames go step by step: `next`, `infer` and `inferImage` say what is to be done then, as an object `{ type, … }`: `load`, `prepare`, `capture`, `encode`,
/// `sent`, `answer`, `dropped`, `free` and `wait`. Errors are thrown as objects `{ code, message }`. What arrives on its own is told to the listener as
/// objects, too: `answer` and `dropped`, and `open`, `answered`, `moved` and `closed` of the connection.
#[wasm_bindgen]
pub struct Client {
    shared: Rc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) engine: RefCell<Engine>,
    socket: RefCell<Option<Socket>>,
    /// Whether answers come with what the network saw.
    pixels: bool,
    listener: Function,
}

#[wasm_bindgen]
impl Client {
    /// A client for the series of this manifest, given as the bytes of its file. `pixels` says whether answers come with what the network
    /// saw; `now` tells the time in milliseconds and never runs backwards; `listener` is called with every event.
    #[wasm_bindgen(constructor)]
    pub fn new(manifest: &[u8], pixels: bool, now: Function, listener: Function) -> Result<Client, JsValue> {
        std::panic::set_hook(Box::new(|panic| web_sys::console::error_1(&panic.to_string().into())));
        let clock = Clock::new(move || {
            let now = now.call0(&JsValue::NULL).ok().and_then(|it| it.as_f64());
            milliseconds(now.unwrap_or_default())
        });
        let shared = Shared {
            engine: RefCell::new(Engine::new(manifest, clock).map_err(thrown)?),
            socket: RefCell::new(None),
            pixels,
            listener,
        };
        Ok(Self {
            shared: Rc::new(shared),
        })
    }

    /// The series: classes, frame size, operating points.
    pub fn series(&self) -> Result<JsValue, JsValue> {
        object(&view::series(&self.shared.engine.borrow()))
    }

    /// What brings pictures to the pixels that networks take, from `capture` to `infer`.
    pub fn pictures(&self) -> Pictures {
        Pictures {
            shared: Rc::clone(&self.shared),
        }
    }

    /// Takes a downloaded file; refuses it if its SHA-256 is another.
    #[wasm_bindgen(js_name = addFile)]
    pub fn add_file(&self, sha256: String, bytes: Vec<u8>) -> Result<(), JsValue> {
        let expected = Digest::try_from(sha256).map_err(|it| JsValue::from(js_sys::Error::new(&it)))?;
        self.shared
            .engine
            .borrow_mut()
            .add_file(expected, bytes)
            .map_err(thrown)
    }

    /// Makes an operating point's codec and head of their files, and warms the head up. Takes a moment.
    pub fn prepare(&self, point: usize) -> Result<(), JsValue> {
        self.shared.engine.borrow_mut().prepare(point).map_err(thrown)
    }

    /// Lets the JavaScript engine optimise what heads run on, which takes some milliseconds. Call it once, while the first head is being downloaded.
    #[wasm_bindgen(js_name = warmUp)]
    pub fn warm_up(&self) -> Result<(), JsValue> {
        warm_up().map_err(|it| thrown(it.into()))
    }

    /// Leaves an operating point alone for a while whose head could not be had.
    pub fn fail(&self, point: usize, code: &str, message: &str) {
        self.shared.engine.borrow_mut().fail(point, code, message);
    }

    /// Changes how operating points are chosen.
    #[wasm_bindgen(js_name = setGoal)]
    pub fn set_goal(&self, goal: JsValue) -> Result<(), JsValue> {
        let goal = serde_wasm_bindgen::from_value(goal)
            .map_err(|it| error("goal-invalid", &format!("the goal is not one: {it}")))?;
        self.shared.engine.borrow_mut().set_goal(goal).map_err(thrown)
    }

    /// Excludes operating points that need an image format which this browser does not write: `image/webp` or `image/jpeg`.
    #[wasm_bindgen(js_name = excludeFormat)]
    pub fn exclude_format(&self, media_type: &str) {
        let format = match media_type {
            "image/webp" => ImageFormat::Webp,
            _ => ImageFormat::Jpeg,
        };
        self.shared.engine.borrow_mut().exclude_format(format);
    }

    /// What was learnt of this device's speed, as an opaque object to be kept for the next visit.
    pub fn profile(&self) -> Result<JsValue, JsValue> {
        Ok(serde_wasm_bindgen::to_value(self.shared.engine.borrow().profile())?)
    }

    /// Starts from what an earlier visit learnt. Anything else is ignored, and so are numbers in it that cannot be times.
    #[wasm_bindgen(js_name = setProfile)]
    pub fn set_profile(&self, profile: JsValue) {
        if let Ok(profile) = serde_wasm_bindgen::from_value(profile) {
            self.shared.engine.borrow_mut().set_profile(profile);
        }
    }

    /// What is to be done now. `waiting` is the number of the frame whose picture waits, if one does.
    pub fn next(&self, waiting: Option<u32>) -> Result<JsValue, JsValue> {
        let step = self.shared.engine.borrow_mut().next(waiting);
        self.shared.step(step)
    }

    /// Runs the frame whose picture was taken after a `capture`. It came at `arrived`; `delivery` is what the latest frame took that only the
    /// page knows: its picture's way here, and its answer's way back. Both in milliseconds.
    pub fn infer(&self, frame: u32, arrived: f64, delivery: Option<f64>) -> Result<JsValue, JsValue> {
        let (arrived, delivery) = (milliseconds(arrived), delivery.map(milliseconds));
        let step = self.shared.engine.borrow_mut().infer(frame, arrived, delivery);
        self.shared.step(step)
    }

    /// Sends the frame that was coded after an `encode`, as this image file.
    #[wasm_bindgen(js_name = inferImage)]
    pub fn infer_image(&self, image: &[u8]) -> Result<JsValue, JsValue> {
        let step = self.shared.engine.borrow_mut().infer_image(image);
        self.shared.step(step)
    }

    /// Gives up the frame of the latest `capture` or `encode`.
    #[wasm_bindgen(js_name = putDown)]
    pub fn put_down(&self) {
        self.shared.engine.borrow_mut().put_down();
    }

    /// Connects over a socket that is being opened; what becomes of it is told to the listener. A connection in use is dropped.
    pub fn connect(&self, socket: MessageSocket, token: Option<String>) {
        self.shared.leave();
        let hello = self.shared.engine.borrow_mut().connect(token);
        let shared = Rc::downgrade(&self.shared);
        let socket = Socket::new(socket, move |event| {
            if let Some(shared) = shared.upgrade() {
                shared.happened(event, &hello);
            }
        });
        *self.shared.socket.borrow_mut() = Some(socket);
    }

    /// To be called several times a second, but not while messages that have arrived are kept back: gives up a silent connection, and probes the
    /// link when what passes says too little of it.
    pub fn tick(&self) -> Result<(), JsValue> {
        if self.shared.engine.borrow().is_overdue() {
            self.shared
                .ended(CONNECTION_LOST, "the edge worker stopped answering".into());
            return Ok(());
        }
        self.shared.resend();
        let mut engine = self.shared.engine.borrow_mut();
        engine.listened();
        if engine.probe().map_err(thrown)? {
            self.shared.send(engine.message());
        }
        Ok(())
    }

    /// Ends the connection. Frames in flight are forgotten and no event follows.
    pub fn close(&self) {
        self.shared.leave();
        self.shared.engine.borrow_mut().disconnect("the client was closed");
    }
}

impl Shared {
    fn happened(&self, event: SocketEvent, hello: &[u8]) {
        match event {
            SocketEvent::Open => self.send(hello),
            SocketEvent::Message(bytes, at) => self.receive(bytes, at),
            SocketEvent::Close(CLOSE_MOVED, _) if self.engine.borrow().is_connected() => self.moved(),
            SocketEvent::Close(code, reason) => self.ended(CONNECTION_LOST, close_text(code, &reason)),
        }
    }

    /// Says goodbye over the socket in use, if there is one, and drops it.
    fn leave(&self) {
        if self.engine.borrow().is_connected() {
            let mut bye = Vec::new();
            ClientMessage::Bye.encode(&mut bye);
            self.send(&bye);
        }
        self.socket.borrow_mut().take();
    }

    fn send(&self, message: &[u8]) {
        if let Some(socket) = self.socket.borrow().as_ref() {
            socket.send(message);
        }
    }

    fn receive(&self, bytes: Option<Vec<u8>>, at: Duration) {
        let Some(bytes) = bytes else {
            let why = "the edge worker sent text instead of a binary message";
            return self.ended("protocol", why.into());
        };
        let notice = self.engine.borrow_mut().receive(&bytes, at);
        self.resend();
        match notice {
            Ok(Notice::Open) => self.tell(object(&json!({ "type": "open" }))),
            Ok(Notice::Answered(Some(step))) => self.tell(self.step(step)),
            Ok(Notice::Answered(None)) => self.tell(object(&json!({ "type": "answered" }))),
            Err(error) => self.ended(error.code(), error.to_string()),
        }
    }

    /// Sends again what a connection that was moved left unanswered, as far as there is credit.
    fn resend(&self) {
        let mut engine = self.engine.borrow_mut();
        while engine.resend() {
            self.send(engine.message());
        }
    }

    fn moved(&self) {
        if let Some(socket) = self.socket.borrow().as_ref() {
            socket.close();
        }
        self.engine.borrow_mut().moved();
        self.tell(object(&json!({ "type": "moved" })));
    }

    /// The socket is closed but not dropped: this may run inside one of its handlers.
    fn ended(&self, code: &'static str, message: String) {
        if let Some(socket) = self.socket.borrow().as_ref() {
            socket.close();
        }
        self.engine.borrow_mut().disconnect(&message);
        let closed = json!({ "type": "closed", "code": code, "message": message, "retry": may_retry(code) });
        self.tell(object(&closed));
    }

    /// A step as JavaScript sees it, after what it takes on this side.
    fn step(&self, step: Step) -> Result<JsValue, JsValue> {
        let mut engine = self.engine.borrow_mut();
        if step == Step::Sent {
            self.send(engine.message());
        }
        let told = object(&view::step(engine.manifest(), &step))?;
        let rgba = match &step {
            Step::Encode { rgba, .. } => Some(rgba),
            Step::Answer(result) if self.pixels => Some(&result.rgba),
            _ => None,
        };
        if let Some(rgba) = rgba {
            Reflect::set(&told, &"rgba".into(), &Uint8ClampedArray::from(rgba.as_slice()))?;
        }
        if let Some(choice) = engine.take_news() {
            Reflect::set(&told, &"selection".into(), &object(&view::selection(&choice))?)?;
        }
        Ok(told)
    }

    fn tell(&self, event: Result<JsValue, JsValue>) {
        // The listener's own errors are its own business; they must not stop the socket.
        if let Ok(event) = event {
            let _ = self.listener.call1(&JsValue::NULL, &event);
        }
    }
}

fn close_text(code: u16, reason: &str) -> String {
    match (code, reason) {
        (1006, _) => "the edge worker cannot be reached".into(),
        (code, "") => format!("the edge worker closed the connection (code {code})"),
        (_, reason) => format!("the edge worker closed the connection: {reason}"),
    }
}

fn milliseconds(milliseconds: f64) -> Duration {
    Duration::try_from_secs_f64(milliseconds / 1e3).unwrap_or_default()
}

/// By way of JSON: browsers read that several times faster than a program builds the same object, property by property.
fn object(value: &Value) -> Result<JsValue, JsValue> {
    js_sys::JSON::parse(&value.to_string())
}

fn thrown(source: ClientError) -> JsValue {
    error(source.code(), &source.to_string())
}

fn error(code: &str, message: &str) -> JsValue {
    let error = Object::new();
    // Setting a property of a fresh object cannot fail.
    let _ = Reflect::set(&error, &"code".into(), &code.into());
    let _ = Reflect::set(&error, &"message".into(), &message.into());
    error.into()
}
