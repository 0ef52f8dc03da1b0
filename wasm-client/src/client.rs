//! The class that JavaScript sees.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::Duration,
};

use js_sys::{Function, Object, Reflect};
use serde::Serialize;
use split_core::{
    Digest,
    manifest::ImageFormat,
    wire::{CLOSE_MOVED, ClientMessage},
};
use wasm_bindgen::{JsValue, prelude::wasm_bindgen};

use crate::{
    device::cut,
    engine::{Engine, Notice},
    error::{ClientError, may_retry},
    pictures::Pictures,
    scope,
    socket::{LinkSetting, MessageSocket, Socket, SocketEvent},
    throttle::Throttle,
    view::{FileView, ResultView, SelectionView, SeriesView},
};

/// Code of the error that follows when a connection ends without a reason that the protocol gives.
const CONNECTION_LOST: &str = "connection-lost";

/// One client of one edge worker, to be used in a web worker.
///
/// Errors are thrown as objects `{ code, message }`; what arrives on its own is told to the listener as objects `{ type, … }`: `open`, `result`,
/// `busy`, `failed`, `probed`, `moved` and `closed`.
#[wasm_bindgen]
pub struct Client {
    shared: Rc<Shared>,
}

struct Shared {
    engine: RefCell<Engine>,
    socket: RefCell<Option<Socket>>,
    link: LinkSetting,
    listener: Function,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
enum EventView {
    Open {
        credit: u8,
    },
    Result(ResultView),
    Busy {
        frame: u32,
        retry_ms: u32,
    },
    Failed {
        frame: u32,
        code: &'static str,
        message: String,
    },
    Probed,
    /// The edge worker asks to connect again at once; frames in flight go over the next connection.
    Moved,
    Closed {
        code: &'static str,
        message: String,
        retry: bool,
        frames: Vec<u32>,
    },
}

#[wasm_bindgen]
impl Client {
    /// A client for the series of this manifest, given as the bytes of its file. `listener` is called with every event.
    #[wasm_bindgen(constructor)]
    pub fn new(manifest: &[u8], listener: Function) -> Result<Client, JsValue> {
        std::panic::set_hook(Box::new(|panic| web_sys::console::error_1(&panic.to_string().into())));
        let engine = Engine::new(manifest, scope::now).map_err(thrown)?;
        let shared = Shared {
            engine: RefCell::new(engine),
            socket: RefCell::new(None),
            link: Rc::new(Cell::new(None)),
            listener,
        };
        Ok(Self {
            shared: Rc::new(shared),
        })
    }

    /// The series: classes, frame size, operating points.
    pub fn series(&self) -> Result<JsValue, JsValue> {
        object(&SeriesView::of(&self.shared.engine.borrow()))
    }

    /// What brings pictures to the pixels that an operating point's network takes.
    pub fn pictures(&self, point: usize) -> Result<Pictures, JsValue> {
        let engine = self.shared.engine.borrow();
        let manifest = engine.manifest();
        let cut = cut(manifest, point).map_err(thrown)?;
        let shape = cut.input.shape;
        Ok(Pictures::new(cut.input.preparation, [shape.height(), shape.width()]))
    }

    /// Files that must be downloaded before an operating point is ready: `{ path, sha256, bytes }`, the path relative to the manifest.
    pub fn missing(&self, point: usize) -> Result<JsValue, JsValue> {
        let engine = self.shared.engine.borrow();
        let missing = engine.missing(point).map_err(thrown)?;
        object(&missing.iter().map(FileView::of).collect::<Vec<_>>())
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

    /// Whether frames can run through an operating point at once.
    #[wasm_bindgen(js_name = isReady)]
    pub fn is_ready(&self, point: usize) -> bool {
        self.shared.engine.borrow().is_ready(point)
    }

    /// Makes an operating point's codec and head of their files, and warms the head up. Takes a moment.
    pub fn prepare(&self, point: usize) -> Result<(), JsValue> {
        self.shared.engine.borrow_mut().prepare(point).map_err(thrown)
    }

    /// Changes how operating points are chosen. Returns the frames that wait to be sent again and, by this goal, are not to leave the device.
    #[wasm_bindgen(js_name = setGoal)]
    pub fn set_goal(&self, goal: JsValue) -> Result<Vec<u32>, JsValue> {
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

    /// Excludes an operating point that can never be used here.
    pub fn exclude(&self, point: usize) {
        self.shared.engine.borrow_mut().exclude(point);
    }

    /// Leaves an operating point alone for a while whose head could not be had.
    pub fn fail(&self, point: usize) {
        self.shared.engine.borrow_mut().fail(point);
    }

    /// Whether the head of an operating point may be asked for now.
    #[wasm_bindgen(js_name = mayLoad)]
    pub fn may_load(&self, point: usize) -> bool {
        self.shared.engine.borrow().may_load(point)
    }

    /// Chooses the operating point for the next frame, with its reason; undefined if none is usable.
    pub fn choose(&self) -> Result<JsValue, JsValue> {
        let mut engine = self.shared.engine.borrow_mut();
        match engine.choose() {
            Some(point) => object(&SelectionView::of(&engine, point)),
            None => Ok(JsValue::UNDEFINED),
        }
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

    /// Makes link and device slower than they are: `{ link?: { bytesPerSecond, roundTripMs }, device?: factor }`, for demonstration.
    ///
    /// Messages wait, and so does whatever runs on the device, so that both are measured as if they were so slow.
    #[wasm_bindgen(js_name = setThrottle)]
    pub fn set_throttle(&self, throttle: JsValue) -> Result<(), JsValue> {
        let Throttle { link, device } = serde_wasm_bindgen::from_value(throttle)?;
        self.shared.link.set(link);
        self.shared.engine.borrow_mut().set_slowdown(device.unwrap_or(1.0));
        Ok(())
    }

    /// How many times as long everything takes on the device as it would without a throttle.
    #[wasm_bindgen(getter)]
    pub fn slowdown(&self) -> f64 {
        self.shared.engine.borrow().slowdown()
    }

    /// Connects over a socket that is being opened; what becomes of it is told to the listener. A connection in use is dropped.
    pub fn connect(&self, socket: MessageSocket, token: Option<String>) {
        self.shared.leave();
        let hello = self.shared.engine.borrow_mut().connect(token);
        let (link, shared) = (Rc::clone(&self.shared.link), Rc::downgrade(&self.shared));
        let socket = Socket::new(socket, link, move |event| {
            if let Some(shared) = shared.upgrade() {
                shared.happened(event, &hello);
            }
        });
        *self.shared.socket.borrow_mut() = Some(socket);
    }

    /// Whether the edge worker has welcomed this client.
    #[wasm_bindgen(getter)]
    pub fn connected(&self) -> bool {
        self.shared.engine.borrow().is_connected()
    }

    /// Whether another frame may be sent now, or after the pause.
    #[wasm_bindgen(getter, js_name = hasCredit)]
    pub fn has_credit(&self) -> bool {
        self.shared.engine.borrow().has_credit()
    }

    /// Keeps a request for the frame that is being prepared, or gives it back.
    pub fn reserve(&self, reserved: bool) {
        self.shared.engine.borrow_mut().reserve(reserved);
    }

    /// For how many milliseconds the edge worker wants no frame.
    #[wasm_bindgen(getter, js_name = pauseMs)]
    pub fn pause_ms(&self) -> f64 {
        self.shared.engine.borrow().pause().as_secs_f64() * 1e3
    }

    /// Runs one frame, RGBA bytes of the network's size, through an operating point.
    ///
    /// Returns the result if everything ran here, otherwise undefined: the result comes as an event with the same frame number.
    pub fn infer(&self, frame: u32, point: usize, rgba: &[u8]) -> Result<JsValue, JsValue> {
        let mut engine = self.shared.engine.borrow_mut();
        match engine.infer(frame, point, rgba).map_err(thrown)? {
            Some(result) => object(&ResultView::of(engine.manifest(), &result)),
            None => {
                self.shared.send(engine.message());
                Ok(JsValue::UNDEFINED)
            }
        }
    }

    /// Sends one frame as an image file that took `encode_ms` to write, for operating points at `input`. The result comes as an event.
    #[wasm_bindgen(js_name = inferImage)]
    pub fn infer_image(&self, frame: u32, point: usize, image: &[u8], encode_ms: f64) -> Result<(), JsValue> {
        let mut engine = self.shared.engine.borrow_mut();
        // No number, or a negative one, is a time that says nothing.
        let encode = Duration::try_from_secs_f64(encode_ms / 1e3).unwrap_or_default();
        engine.infer_image(frame, point, image, encode).map_err(thrown)?;
        self.shared.send(engine.message());
        Ok(())
    }

    /// To be called several times a second: gives up a silent connection, and probes the link when what passes says too little of it.
    pub fn tick(&self) -> Result<(), JsValue> {
        if self.shared.engine.borrow().is_overdue() {
            self.shared
                .ended(CONNECTION_LOST, "the edge worker stopped answering".into());
            return Ok(());
        }
        self.shared.resend().map_err(thrown)?;
        let mut engine = self.shared.engine.borrow_mut();
        if engine.probe().map_err(thrown)? {
            self.shared.send(engine.message());
        }
        Ok(())
    }

    /// Ends the connection. Frames in flight are forgotten and no event follows.
    pub fn close(&self) {
        self.shared.leave();
        self.shared.engine.borrow_mut().disconnect();
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
        let notice = match bytes {
            Some(bytes) => self.engine.borrow_mut().receive(&bytes, at),
            None => {
                return self.ended(
                    "protocol",
                    "the edge worker sent text instead of a binary message".into(),
                );
            }
        };
        match notice {
            Ok(notice) => {
                let view = self.view(notice);
                let resent = self.resend();
                self.tell(&view);
                if let Err(error) = resent {
                    self.ended(error.code(), error.to_string());
                }
            }
            Err(error) => self.ended(error.code(), error.to_string()),
        }
    }

    fn view(&self, notice: Notice) -> EventView {
        match notice {
            Notice::Open(welcome) => EventView::Open { credit: welcome.credit },
            Notice::Result(result) => EventView::Result(ResultView::of(self.engine.borrow().manifest(), &result)),
            Notice::Busy { frame, retry_ms } => EventView::Busy { frame, retry_ms },
            Notice::Failed { frame, code, text } => EventView::Failed {
                frame,
                code,
                message: text,
            },
            Notice::Probed => EventView::Probed,
        }
    }

    /// Sends again what a connection that was moved left unanswered, as far as there is credit.
    fn resend(&self) -> Result<(), ClientError> {
        let mut engine = self.engine.borrow_mut();
        while engine.resend()? {
            self.send(engine.message());
        }
        Ok(())
    }

    fn moved(&self) {
        if let Some(socket) = self.socket.borrow().as_ref() {
            socket.close();
        }
        self.engine.borrow_mut().moved();
        self.tell(&EventView::Moved);
    }

    /// The socket is closed but not dropped: this may run inside one of its handlers.
    fn ended(&self, code: &'static str, message: String) {
        if let Some(socket) = self.socket.borrow().as_ref() {
            socket.close();
        }
        let frames = self.engine.borrow_mut().disconnect();
        self.tell(&EventView::Closed {
            code,
            message,
            retry: may_retry(code),
            frames,
        });
    }

    fn tell(&self, event: &EventView) {
        // The listener's own errors are its own business; they must not stop the socket.
        if let Ok(event) = object(event) {
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

/// By way of JSON: browsers read that several times faster than a program builds the same object, property by property.
fn object(value: &impl Serialize) -> Result<JsValue, JsValue> {
    let json = serde_json::to_string(value).map_err(|it| JsValue::from(js_sys::Error::new(&it.to_string())))?;
    js_sys::JSON::parse(&json)
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
