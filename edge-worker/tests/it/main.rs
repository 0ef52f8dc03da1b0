//! The edge worker from outside: a real server on a free port, a toy series on disk, and clients good and bad.
//!
//! One program, so that it is linked once.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed helper fails the test")]

mod abuse;
mod answers;
mod deploy;
mod files;
mod handshake;
mod image;
mod life;
mod overload;
mod process;
mod program;
mod proxies;
mod support;
