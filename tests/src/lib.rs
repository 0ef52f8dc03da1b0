//! What tests and benchmarks of several crates share.
//!
//! [`toy`] makes a small series that knows its own answers; [`client`] asks an edge worker without a browser; [`simulator`] runs the selector
//! on recorded conditions; [`report`] holds what a measuring program found.

pub mod client;
pub mod report;
pub mod simulator;
pub mod toy;
