//! The procedures of the contract: what is asked and what is answered.
//!
//! Requests are read by [`Read`](crate::read::Read) with the contract's exact rules and written by serde; answers
//! are read and written by serde, so that the client reads a plain server with the same types. Payloads stay raw.

mod request;

pub mod run_request;
