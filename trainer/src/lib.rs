//! Trains networks, prunes them in two steps and keeps what comes out as checkpoints.
//!
//! [`network::Description`] says what a network is, [`checkpoint::Checkpoint`] holds its weights. Neither knows the training
//! framework; what follows training (calibration, export) builds on these two alone.

mod augment;
pub mod benchmark;
mod block;
#[cfg(test)]
mod block_tests;
pub mod checkpoint;
pub mod command;
pub mod data;
mod decode;
pub mod files;
pub mod graph_checkpoint;
pub mod import;
pub mod inspect;
mod kernels;
mod learn;
mod model;
pub mod network;
mod operator;
pub mod progress;
pub mod prune;
mod quantize;
pub mod quick;
pub mod run;
pub mod series;
pub mod settings;
mod teacher;
