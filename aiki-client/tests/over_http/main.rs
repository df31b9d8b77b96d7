//! The client against a server behind HTTP on loopback.

mod conformance;
mod faults;
mod refusals;
mod support;
mod worker;
