//! The client against a server behind HTTP on loopback.

mod conformance;
mod faults;
mod plain;
mod refusals;
mod support;
mod tls;
mod waiting;
mod worker;
