//! The program as its users have it: commands, files and messages, with pictures and networks made here.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed helper fails the test")]

mod faults;
mod graph;
mod resume;
mod series;
mod support;
mod sweep;
mod tutorial;
