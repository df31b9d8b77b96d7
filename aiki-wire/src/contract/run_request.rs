//! Requests about runs.

use super::request::request;
use crate::read::Str1;

request! {
    /// Names one run, task or schedule.
    ById {
        /// Its id. One that is no ULID belongs to nothing.
        need id: Str1 = "id",
    }
}
