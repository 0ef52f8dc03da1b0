//! What tests and benchmarks of several crates share.
//!
//! [`toy`] makes a small series that knows its own answers; [`family`] makes series of well-known networks; [`client`] asks an edge worker without a browser; [`simulator`] runs the selector
//! on conditions that a [`trace`] tells; [`report`] holds what a measuring program found; [`link`] makes a connection slower; [`series`]
//! reads a series from its folder; [`pictures`] reads image folders; [`proxy`] starts the proxies of `deploy/`.

pub mod client;
pub mod family;
pub mod link;
mod made_up;
pub mod pictures;
pub mod proxy;
pub mod report;
pub mod series;
pub mod simulator;
pub mod toy;
pub mod trace;
