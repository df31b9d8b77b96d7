//! Priority lanes and whose turn it is.

use aiki_core::Priority;

/// One lane for each priority.
pub(super) const LANES: usize = 3;

/// After so many deliveries of one priority in a row, a waiting delivery of a lower one has its turn.
/// So a subscriber that is flooded with `High` still gives every 17th place to the rest, and of those
/// places every 17th to `Low`.
pub const BURST: u32 = 16;

/// The lane of a priority; lane 0 goes first.
pub(super) fn lane_of(priority: Priority) -> usize {
    match priority {
        Priority::High => 0,
        Priority::Normal => 1,
        Priority::Low => 2,
    }
}

/// Remembers how long each lane has kept lower ones waiting.
#[derive(Debug, Default)]
pub(super) struct Turns {
    streak: [u32; LANES],
}

impl Turns {
    /// The lane to take the next delivery from, given which lanes have any.
    pub(super) fn next(&mut self, waiting: [bool; LANES]) -> Option<usize> {
        let last = waiting.iter().rposition(|waits| *waits)?;
        for lane in (0..last).filter(|lane| waiting[*lane]) {
            if self.streak[lane] < BURST {
                self.streak[lane] += 1;
                return Some(lane);
            }
            self.streak[lane] = 0;
        }
        self.streak[last] = 0;
        Some(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_high_leaves_every_17th_place_to_the_rest() {
        let mut turns = Turns::default();
        let mut since = [0_u32; LANES];
        let mut longest = [0_u32; LANES];
        for _ in 0..10_000 {
            let lane = turns.next([true; LANES]).unwrap();
            for (other, since) in since.iter_mut().enumerate() {
                *since = if other == lane { 0 } else { *since + 1 };
                longest[other] = longest[other].max(*since);
            }
        }
        // Normal waits twice as long when its place is the one that goes to low.
        assert_eq!(longest, [1, 2 * (BURST + 1) - 1, (BURST + 1) * (BURST + 1) - 1]);
    }

    #[test]
    fn a_lane_alone_is_never_held_up() {
        let mut turns = Turns::default();
        assert!((0..100).all(|_| turns.next([true, false, false]) == Some(0)));
        assert!((0..BURST).all(|_| turns.next([true, false, true]) == Some(0)));
        assert_eq!(turns.next([true, false, true]), Some(2));
        assert_eq!(turns.next([false; LANES]), None);
    }
}
