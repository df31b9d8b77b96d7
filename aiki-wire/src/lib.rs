//! What Aiki's server, workers and clients say to each other over HTTP: plain data, no sockets.
//!
//! [`envelope`] and [`error`] are the frame of every call. The procedures of the contract that other
//! implementations speak are apart from those that only this one knows; the latter are specified in
//! `docs/wire-protocol.md`.

pub mod contract;
pub mod depth;
pub mod envelope;
pub mod error;
pub mod meta;
pub mod native;
pub mod read;
