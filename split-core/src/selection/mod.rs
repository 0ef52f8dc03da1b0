//! Choosing the operating point from measured compute and a measured link.
//!
//! ```text
//! head times ──► LatencyProfile ─┐
//! answers ─────► LinkEstimator ──┼─► Conditions ──► select ──► Selection (point, prediction, reason)
//! edge timings ► EdgeEstimator ──┘
//! ```
//!
//! The three estimators keep state and take the time as an argument; [`select`] is a pure function of what they say.
//! [`Selector`] holds them together for one client.

mod edge;
mod link;
mod profile;
mod select;
mod selector;
mod traffic;

pub use edge::EdgeEstimator;
pub use link::{LinkEstimate, LinkEstimator, LinkSample};
pub use profile::LatencyProfile;
pub use select::{Candidate, Conditions, FRAMING_BYTES, Prediction, Requirement, Selection, default_point, select};
pub use selector::{Answer, Selector, Unanswered};

/// Median of the values; none of none. Reorders them.
fn median(values: &mut [f64]) -> Option<f64> {
    if values.is_empty() {
        return None;
    }
    let odd = !values.len().is_multiple_of(2);
    let (low, &mut upper, _) = values.select_nth_unstable_by(values.len() / 2, f64::total_cmp);
    let lower = low.iter().copied().max_by(f64::total_cmp).filter(|_| !odd);
    Some(lower.map_or(upper, |it| (it + upper) / 2.0))
}
