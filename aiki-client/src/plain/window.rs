//! A part of a list of runs, by the ids of the runs.

use aiki_core::RunId;
use aiki_core::listing::{RunFilter, RunOrder, RunPageRequest};

/// The ids from `low` to before `high`, read in an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Window {
    pub(super) order: RunOrder,
    low: Option<RunId>,
    high: Option<RunId>,
}

impl Window {
    /// The ids that fit a filter and come behind where a page goes on; `None` when there are none.
    pub(super) fn of(filter: &RunFilter, page: RunPageRequest) -> Option<Self> {
        let (mut low, mut high) = filter.id_range();
        match (page.order, page.after) {
            (_, None) => {}
            (RunOrder::NewestFirst, Some(after)) => high = Some(high.map_or(after, |high| high.min(after))),
            (RunOrder::OldestFirst, Some(after)) => {
                let next = RunId::from_bits(after.to_bits().checked_add(1)?);
                low = Some(low.map_or(next, |low| low.max(next)));
            }
        }
        let empty = low.zip(high).is_some_and(|(low, high)| low >= high);
        (!empty).then_some(Self { order: page.order, low, high })
    }

    fn is_below(&self, run: RunId) -> bool {
        self.low.is_some_and(|low| run < low)
    }

    fn is_above(&self, run: RunId) -> bool {
        self.high.is_some_and(|high| run >= high)
    }

    /// Whether the window begins somewhere in the list.
    pub(super) fn is_bounded_in_front(&self) -> bool {
        match self.order {
            RunOrder::NewestFirst => self.high.is_some(),
            RunOrder::OldestFirst => self.low.is_some(),
        }
    }

    /// Whether it ends somewhere in the list.
    pub(super) fn is_bounded_behind(&self) -> bool {
        match self.order {
            RunOrder::NewestFirst => self.low.is_some(),
            RunOrder::OldestFirst => self.high.is_some(),
        }
    }

    /// Whether a run comes before the window.
    pub(super) fn is_before(&self, run: RunId) -> bool {
        match self.order {
            RunOrder::NewestFirst => self.is_above(run),
            RunOrder::OldestFirst => self.is_below(run),
        }
    }

    /// Whether a run comes behind the window.
    pub(super) fn is_behind(&self, run: RunId) -> bool {
        match self.order {
            RunOrder::NewestFirst => self.is_below(run),
            RunOrder::OldestFirst => self.is_above(run),
        }
    }

    /// Whether a run lies in the window.
    pub(super) fn has(&self, run: RunId) -> bool {
        !self.is_below(run) && !self.is_above(run)
    }

    /// Whether a run comes after another one.
    pub(super) fn follows(&self, run: RunId, other: RunId) -> bool {
        match self.order {
            RunOrder::NewestFirst => run < other,
            RunOrder::OldestFirst => run > other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn run(bits: u128) -> RunId {
        RunId::from_bits(bits)
    }

    fn from(order: RunOrder, after: Option<u128>) -> Option<Window> {
        let page = RunPageRequest { order, after: after.map(run), ..RunPageRequest::default() };
        Window::of(&RunFilter::default(), page)
    }

    #[test]
    fn a_page_goes_on_behind_its_run_in_its_own_direction() {
        let down = from(RunOrder::NewestFirst, Some(5)).unwrap();
        assert!(down.is_before(run(5)) && down.has(run(4)) && !down.is_bounded_behind());
        let up = from(RunOrder::OldestFirst, Some(5)).unwrap();
        assert!(up.is_before(run(5)) && up.has(run(6)) && up.is_bounded_in_front());
        assert!(down.follows(run(3), run(4)) && up.follows(run(4), run(3)));
    }

    #[test]
    fn behind_the_last_of_all_ids_there_is_nothing() {
        assert_eq!(from(RunOrder::OldestFirst, Some(u128::MAX)), None);
        let all = from(RunOrder::NewestFirst, None).unwrap();
        assert!(all.has(run(0)) && all.has(run(u128::MAX)) && !all.is_bounded_in_front());
    }
}
