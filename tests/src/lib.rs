//! What tests and benchmarks of several crates share.
//!
//! [`toy`] makes a small series that knows its own answers; [`client`] asks an edge worker without a browser.

pub mod client;
pub mod toy;
