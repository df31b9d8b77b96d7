//! What goes wrong on the way between server and workers.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aiki_runtime::{Entropy, SeededEntropy};

use crate::seed;

/// What goes wrong, and how often: by chance that can be repeated. All of it is allowed to a transport, so a
/// workflow has to end with the same result whatever is chosen here.
///
/// The seed is that of `AIKI_TEST_SEED` where it is set; a test that fails prints the one that it had.
///
/// ```
/// use std::time::Duration;
/// use aiki_testing::Faults;
///
/// let faults = Faults::seeded(7).duplicates(0.2).late(0.1, Duration::from_secs(30)).lost(0.1);
/// assert!(faults.to_string().contains("AIKI_TEST_SEED="));
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Faults {
    seed: u64,
    duplicates: f64,
    late: f64,
    latest: Duration,
    lost: f64,
    stolen_leases: f64,
    lost_answers: f64,
    broker_restarts: f64,
}

impl Faults {
    /// No faults yet, from a seed.
    pub fn seeded(seed: u64) -> Self {
        Self {
            seed: seed::or(seed),
            duplicates: 0.0,
            late: 0.0,
            latest: Duration::ZERO,
            lost: 0.0,
            stolen_leases: 0.0,
            lost_answers: 0.0,
            broker_restarts: 0.0,
        }
    }

    /// No faults yet, from a seed that is another one each time.
    pub fn random() -> Self {
        Self::seeded(seed::by_chance())
    }

    /// A bit of everything: one in ten of each.
    pub fn everything(seed: u64) -> Self {
        Self::seeded(seed)
            .duplicates(0.1)
            .late(0.1, Duration::from_secs(10))
            .lost(0.1)
            .stolen_leases(0.1)
            .lost_answers(0.1)
            .broker_restarts(0.1)
    }

    /// The part of deliveries that come twice.
    ///
    /// # Panics
    /// Like all of these when the part is not from 0 to 1.
    #[track_caller]
    pub fn duplicates(mut self, part: f64) -> Self {
        self.duplicates = checked(part);
        self
    }

    /// The part of deliveries that come up to `latest` late.
    #[track_caller]
    pub fn late(mut self, part: f64, latest: Duration) -> Self {
        (self.late, self.latest) = (checked(part), latest);
        self
    }

    /// The part of deliveries that never come: the server makes up for them.
    #[track_caller]
    pub fn lost(mut self, part: f64) -> Self {
        self.lost = checked(part);
        self
    }

    /// The part of claims whose lease lapses at once, without their worker knowing: another pass begins while
    /// the first one is still at work.
    #[track_caller]
    pub fn stolen_leases(mut self, part: f64) -> Self {
        self.stolen_leases = checked(part);
        self
    }

    /// The part of reports that are written, and whose worker is told that the server is away.
    #[track_caller]
    pub fn lost_answers(mut self, part: f64) -> Self {
        self.lost_answers = checked(part);
        self
    }

    /// The part of receives at which the broker restarts: it forgets all that it had, and everybody has to
    /// subscribe again.
    #[track_caller]
    pub fn broker_restarts(mut self, part: f64) -> Self {
        self.broker_restarts = checked(part);
        self
    }

    /// The seed in use.
    pub fn seed(&self) -> u64 {
        self.seed
    }
}

/// How to have the same faults again.
impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "faults by chance; to have the same again: {}={}", seed::VARIABLE, self.seed)
    }
}

#[track_caller]
fn checked(part: f64) -> f64 {
    assert!((0.0..=1.0).contains(&part), "{part} is not a part: give a number from 0.0 (never) to 1.0 (always)");
    part
}

/// Faults that happen, drawn one after the other.
#[derive(Clone, Debug)]
pub(crate) struct Trouble {
    pub(crate) faults: Faults,
    chance: Arc<SeededEntropy>,
}

impl Trouble {
    pub(crate) fn new(faults: Faults) -> Self {
        let chance = Arc::new(SeededEntropy::new(faults.seed));
        Self { faults, chance }
    }

    fn draw(&self) -> f64 {
        (self.chance.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// A fault that never happens draws nothing: adding one kind does not change the others' course.
    fn happens(&self, part: f64) -> bool {
        part > 0.0 && self.draw() < part
    }

    pub(crate) fn duplicates(&self) -> bool {
        self.happens(self.faults.duplicates)
    }

    pub(crate) fn late(&self) -> Option<Duration> {
        self.happens(self.faults.late).then(|| self.faults.latest.mul_f64(self.draw()))
    }

    pub(crate) fn loses(&self) -> bool {
        self.happens(self.faults.lost)
    }

    pub(crate) fn steals(&self) -> bool {
        self.happens(self.faults.stolen_leases)
    }

    pub(crate) fn loses_answer(&self) -> bool {
        self.happens(self.faults.lost_answers)
    }

    pub(crate) fn restarts_broker(&self) -> bool {
        self.happens(self.faults.broker_restarts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_draws_the_same_faults_at_about_the_rate_asked_for() {
        let draws = |seed| {
            let trouble = Trouble::new(Faults::seeded(seed).lost(0.2));
            (0..1_000).map(|_| trouble.loses()).collect::<Vec<_>>()
        };
        assert_eq!(draws(7), draws(7));
        let lost = draws(7).into_iter().filter(|lost| *lost).count();
        assert!((150..250).contains(&lost), "{lost}");
    }

    #[test]
    fn a_part_above_one_is_refused() {
        let error = std::panic::catch_unwind(|| Faults::seeded(1).lost(20.0)).unwrap_err();
        assert!(error.downcast_ref::<String>().unwrap().contains("from 0.0 (never) to 1.0 (always)"));
    }
}
