//! What the web worker offers: its clock and its timers.

use std::time::Duration;

use wasm_bindgen::{JsCast, closure::Closure};
use web_sys::WorkerGlobalScope;

/// Time since the web worker began.
pub(crate) fn now() -> Duration {
    let performance = scope().and_then(|it| it.performance());
    Duration::from_secs_f64(performance.map_or(0.0, |it| it.now()) / 1e3)
}

/// Does something later, not before so much time has passed. Timers count whole milliseconds.
pub(crate) fn after(delay: Duration, work: impl FnOnce() + 'static) {
    let callback = Closure::once_into_js(work);
    let milliseconds = i32::try_from(delay.as_micros().div_ceil(1000)).unwrap_or(i32::MAX);
    if let Some(scope) = scope() {
        // Fails only where timers are forbidden, which is nowhere in a web worker.
        let _ = scope.set_timeout_with_callback_and_timeout_and_arguments_0(callback.unchecked_ref(), milliseconds);
    }
}

fn scope() -> Option<WorkerGlobalScope> {
    js_sys::global().dyn_into().ok()
}
