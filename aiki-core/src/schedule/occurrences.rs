//! The seam through which core learns when a schedule is due.

use crate::time::Timestamp;

/// The points in time that a spec names, ascending. Implemented by `aiki-schedule`.
///
/// A spec that counts from its anchor, an interval, takes `after` for the anchor.
pub trait Occurrences {
    /// The first occurrence after `after`; `None` when there is none that can be expressed.
    fn next(&self, after: Timestamp) -> Option<Timestamp>;

    /// The last occurrence that is after `after` and not after `until`.
    fn latest(&self, after: Timestamp, until: Timestamp) -> Option<Timestamp>;
}
