//! The device's half of split inference, for a web worker.
//!
//! ```text
//!  web worker (TypeScript)          this crate, in WebAssembly
//!  ───────────────────────          ───────────────────────────────────────────────────────────────
//!  manifest, segments ──────►  Client ──► Engine ──► Device    heads: frame → features → payload
//!  RGBA frames        ──────►    │          ├──────► Session   messages, split_core::session
//!  events             ◄──────    │          └──────► select    operating point, split_core::selection
//!                                └──► Socket ◄──► edge worker
//! ```
//!
//! [`Engine`] and [`Device`] know neither browser nor clock and are tested natively. [`Client`] is the thin class that JavaScript
//! sees: it uses the WebSocket that it is given, hands bytes over, and turns what comes back into JavaScript objects.

mod client;
mod device;
mod engine;
mod error;
#[cfg(test)]
mod fixture;
mod goal;
mod pictures;
mod scope;
mod socket;
mod throttle;
mod timing;
mod view;

pub use client::Client;
pub use device::{Clock, Device, DeviceStages, Product};
pub use engine::{Engine, FrameResult, Notice, Stages};
pub use error::ClientError;
pub use goal::{Among, Goal};
pub use pictures::Pictures;
pub use view::{PointView, SelectionView, SeriesView};
