//! The fault campaign: real processes under faults that a seed chooses.
//!
//! | part | job |
//! |---|---|
//! | [`options`], [`plan`] | what is asked for; which faults follow from the seed |
//! | [`house`], [`process`] | Redis, servers and workers as processes, with a proxy on every line |
//! | [`worker`], [`mod@line`], [`deliveries`], [`load`] | a worker, and what it notes |
//! | [`doom`], [`foreign`] | handlers that take their process down; a foreign process in the database |
//! | [`bug`] | what a product could do wrong, to see that it is found |
//! | [`callers`], [`inject`], [`streams`], [`disk`], [`fail_point`], [`clock`] | who starts runs; who does harm |
//! | [`notes`] | one file for each process, independent of the database |
//! | [`rest`] | waits until all is over, and looks |
//! | [`story`], [`verdict`] | the history for the checker of `aiki-proof`, and what else is wrong |
//! | [`figures`], [`report`] | what was measured |

pub mod bug;
pub mod callers;
pub mod clock;
pub mod deliveries;
pub mod disk;
pub mod doom;
pub mod fail_point;
pub mod figures;
pub mod foreign;
pub mod house;
pub mod inject;
pub mod line;
pub mod load;
pub mod notes;
pub mod options;
pub mod plan;
pub mod process;
pub mod profile;
pub mod report;
pub mod rest;
pub mod story;
pub mod streams;
pub mod verdict;
pub mod worker;

mod conduct;

pub use conduct::conduct;
