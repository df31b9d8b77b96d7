//! The suites that a backend of Aiki must pass. A rule about backends is a case here, not a sentence
//! in a comment.
//!
//! * [`subscriber`]: for implementations of [`aiki_core::Subscriber`] with their publisher
//! * [`server`]: for implementations of [`aiki_core::ServerClient`]

pub mod server;
pub mod subscriber;
