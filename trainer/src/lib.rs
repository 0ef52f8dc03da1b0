//! Trains networks, prunes them in two steps and keeps what comes out as checkpoints.
//!
//! A [`checkpoint::Checkpoint`] is a network with its weights and what it is for; everything begins and ends with one.

mod augment;
pub mod benchmark;
mod cache;
pub mod checkpoint;
pub mod command;
pub mod data;
mod decode;
pub mod files;
pub mod import;
mod inference;
pub mod inspect;
mod learn;
mod log;
pub mod progress;
pub mod prune;
mod quantize;
pub mod quick;
pub mod run;
pub mod series;
pub mod settings;
pub mod sweep;
mod teacher;
mod tensors;
