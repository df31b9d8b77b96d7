//! The client against a server behind HTTP on loopback.

mod conformance;
mod faults;
mod fronts;
mod plain;
mod plain_conformance;
mod plain_looking;
mod plain_races;
mod plain_schedules;
mod refusals;
mod support;
mod tls;
mod waiting;
mod worker;
