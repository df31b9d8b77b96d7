//! The test kit, as users have it, and that it notices what it is there to notice.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic is how a test fails")]

mod crashes;
mod faults;
mod mocks;
mod replays;
mod time;

use std::panic::{AssertUnwindSafe, catch_unwind};

/// What a failing assertion says.
pub(crate) fn said(assertion: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(assertion)).unwrap_err();
    panic.downcast_ref::<String>().cloned().unwrap_or_else(|| (*panic.downcast_ref::<&str>().unwrap()).to_owned())
}
