//! Pages of a list of runs.

use serde::{Deserialize, Serialize};

use super::RunSummary;
use crate::id::RunId;

/// A page has at most so many entries.
pub const MAX_PAGE: usize = 1_000;

/// The order of a list of runs: ids ascend in the order of creation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunOrder {
    /// The newest run first.
    #[default]
    NewestFirst,
    /// The oldest run first.
    OldestFirst,
}

/// Which part of a list of runs is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunPageRequest {
    /// The order of the list.
    pub order: RunOrder,
    /// Goes on behind this run, whether it is still there or not; `None` begins at the beginning.
    pub after: Option<RunId>,
    /// Leaves out so many more. A page that is found this way shifts when runs come and go, and costs as much as
    /// the pages before it: prefer [`after`](Self::after).
    pub offset: usize,
    /// At most so many runs, 1 to [`MAX_PAGE`].
    pub limit: usize,
}

impl Default for RunPageRequest {
    /// The 50 newest.
    fn default() -> Self {
        Self { order: RunOrder::default(), after: None, offset: 0, limit: 50 }
    }
}

/// A part of a list of runs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunPage {
    /// The runs.
    pub runs: Vec<RunSummary>,
    /// Where the next page begins: give it as [`RunPageRequest::after`]. `None` when this was the last one.
    pub next: Option<RunId>,
}
