//! Progress on standard error: what is being done, how much of it, and how long is left.

use std::fmt::Write;

use indicatif::{HumanDuration, ProgressBar, ProgressState, ProgressStyle};

/// A bar of `steps` steps, invisible where standard error is no terminal.
pub fn bar(what: &'static str, steps: u64) -> ProgressBar {
    let bar = ProgressBar::new(steps).with_prefix(what);
    let template = "{prefix} {wide_bar} {pos}/{len} · {left} · {msg}";
    // The template is a constant; should it ever be wrong, the plain bar does.
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    bar.set_style(style.with_key("left", |state: &ProgressState, text: &mut dyn Write| {
        // Text that cannot be written can only be left out.
        text.write_str(&left(state)).unwrap_or_default();
    }));
    bar
}

/// Time left by the mean of all so far: that of the last seconds jumps.
fn left(state: &ProgressState) -> String {
    let (done, all) = (state.pos(), state.len().unwrap_or(0));
    if done == 0 || done > all {
        return "time left unknown".to_owned();
    }
    let left = state.elapsed().mul_f64((all - done) as f64 / done as f64);
    format!("{:#} left", HumanDuration(left))
}
