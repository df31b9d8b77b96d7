//! The client over HTTP.
//!
//! * `io`: a thread of its own for all sockets, so that requests go on while a handler blocks its runtime
//! * `exchange`: one request and its answer
//! * `failure`: what an answer says that is no good one, and who says it
//! * `send`: trying again
//! * `batch`: what queued during the last request travels together
//! * `session`: which dialect the server speaks, and what it allows
//! * `trust`: whether the certificate of the server is to blame
//! * `waits`: many waits share a few long polls
//! * `client`, `native`, `server_client`: the methods of [`ServerClient`](aiki_core::ServerClient)

mod batch;
mod client;
mod exchange;
mod failure;
mod io;
mod native;
mod send;
mod server_client;
mod session;
mod trust;
mod waits;

pub use client::HttpClient;
pub(crate) use failure::Failure;
pub(crate) use send::{GaveUp, Repeat};
