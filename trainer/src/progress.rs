//! Progress on standard error: rate, time left and what is being done.

use indicatif::{ProgressBar, ProgressStyle};

/// A bar of `steps` steps, invisible where standard error is no terminal.
pub fn bar(what: &'static str, steps: u64) -> ProgressBar {
    let bar = ProgressBar::new(steps).with_prefix(what);
    let template = "{prefix} {wide_bar} {pos}/{len} · {per_sec} · {eta} left · {msg}";
    // The template is a constant; should it ever be wrong, the plain bar does.
    bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}
