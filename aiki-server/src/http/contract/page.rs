//! Parts of lists.

use std::num::NonZeroU64;

/// The length of a page unless the caller says.
const DEFAULT: usize = 50;
/// No page is longer; the total tells that there is more.
const MOST: usize = 1_000;

/// A part of a list.
#[derive(Clone, Copy, Debug)]
pub(super) struct Page {
    pub(super) limit: usize,
    pub(super) offset: usize,
}

impl Page {
    pub(super) fn new(limit: Option<NonZeroU64>, offset: Option<u64>) -> Self {
        let length = |limit: NonZeroU64| usize::try_from(limit.get()).unwrap_or(MOST).min(MOST);
        let offset = offset.map_or(0, |offset| usize::try_from(offset).unwrap_or(usize::MAX));
        Self { limit: limit.map_or(DEFAULT, length), offset }
    }

    /// This part of a whole list.
    pub(super) fn of<T>(self, list: impl Iterator<Item = T>) -> Vec<T> {
        list.skip(self.offset).take(self.limit).collect()
    }
}
