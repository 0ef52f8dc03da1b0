//! The device's half of split inference, for a web worker.
//!
//! ```text
//!  web worker (TypeScript)          this crate, in WebAssembly
//!  ───────────────────────          ───────────────────────────────────────────────────────────────
//!  manifest, segments ──────►  Client ──► Engine ──► Picture   planes or pixels → the network's pixels
//!  pictures           ──────►    │          ├──────► Device    heads: the network's pixels → features → payload
//!  steps, events      ◄──────    │          ├──────► Selector  operating point, split_core::selection
//!                                │          └──────► Session   messages, and what is in flight, split_core::session
//!                                └──► Socket ◄──► edge worker
//! ```
//!
//! All decisions are the [`Engine`]'s: which head to load, which operating point a frame goes through, whether it waits, and where it goes when
//! its answer does not come. It takes one [`Step`] after the other, knows neither browser nor clock, and is tested natively. [`Client`] is the thin class
//! that JavaScript sees: it uses the WebSocket and the clock that it is given, hands bytes over, and turns what comes back into JavaScript objects.

mod choice;
mod client;
mod connection;
mod device;
mod engine;
mod error;
#[cfg(test)]
mod fixture;
mod goal;
mod heads;
mod news;
mod picture;
mod pictures;
mod socket;
mod timing;
mod view;

pub use choice::Choice;
pub use client::Client;
pub use connection::Notice;
pub use device::{Device, DeviceStages, Product};
pub use engine::{Engine, Frame, FrameResult, Stages, Step};
pub use error::ClientError;
pub use goal::{Among, Goal};
pub use picture::Picture;
pub use pictures::Pictures;
pub use timing::Clock;
