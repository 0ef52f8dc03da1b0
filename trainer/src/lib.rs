//! Trains networks, prunes them in two steps and keeps what comes out as checkpoints.
//!
//! [`network::Description`] says what a network is, [`checkpoint::Checkpoint`] holds its weights. Neither knows the training
//! framework; what follows training (calibration, export) builds on these two alone.

pub mod checkpoint;
pub mod files;
pub mod network;
