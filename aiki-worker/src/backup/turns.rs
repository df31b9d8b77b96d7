//! Who is asked next. Synchronous: no runtime, nothing is sent from here.

use std::time::Duration;

use aiki_core::SubscriberError;
use tokio::time::Instant;

/// While the primary is absent, nobody rests for longer: it may come back at any moment.
const LONGEST_REST: Duration = Duration::from_secs(5);

/// After a failure nobody is asked again at once, whatever it says itself.
const SHORTEST_REST: Duration = Duration::from_millis(10);

/// Whom to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    Primary,
    Backup,
    /// It is nobody's turn yet.
    Nobody,
}

#[derive(Debug)]
struct Turn {
    failures: u32,
    /// Not to be asked before.
    next: Instant,
    /// What it said when it last failed, until it succeeds.
    error: Option<SubscriberError>,
}

impl Turn {
    fn answered(&mut self, next: Instant) {
        *self = Self { failures: 0, next, error: None };
    }

    fn failed(&mut self, now: Instant, delay: Duration, error: SubscriberError) {
        let next = now + delay.max(SHORTEST_REST);
        *self = Self { failures: self.failures.saturating_add(1), next, error: Some(error) };
    }
}

/// Whose turn it is, and how both are doing.
#[derive(Debug)]
pub(super) struct Turns {
    primary: Turn,
    backup: Turn,
    /// The primary has delivered, or said that there was nothing.
    trusted: bool,
    /// The backup answers since the primary failed.
    stands_in: bool,
    answered: Option<Instant>,
}

impl Turns {
    pub(super) fn new(now: Instant) -> Self {
        let turn = || Turn { failures: 0, next: now, error: None };
        Self { primary: turn(), backup: turn(), trusted: false, stands_in: false, answered: None }
    }

    /// Whom to ask; the primary may be `absent`, not subscribed to yet.
    pub(super) fn next(&self, now: Instant, absent: bool) -> Ask {
        let primary = !absent && self.primary.next <= now;
        // A primary that wants to be asked again at once must not keep the backup from its turn.
        let backup = self.primary.error.is_some() && self.backup.next <= now;
        match (primary, backup) {
            (true, true) if self.backup.next < self.primary.next => Ask::Backup,
            (true, _) => Ask::Primary,
            (false, true) => Ask::Backup,
            (false, false) => Ask::Nobody,
        }
    }

    /// The time until it is somebody's turn. `None`: the primary is well, and says itself.
    pub(super) fn rest(&self, now: Instant, absent: bool) -> Option<Duration> {
        if !absent && self.primary.error.is_none() {
            return None;
        }
        let next = if absent { now + LONGEST_REST } else { self.primary.next };
        Some(next.min(self.backup.next).saturating_duration_since(now))
    }

    pub(super) fn primary_failures(&self) -> u32 {
        self.primary.failures
    }

    pub(super) fn backup_failures(&self) -> u32 {
        self.backup.failures
    }

    pub(super) fn primary_is_trusted(&self) -> bool {
        self.trusted
    }

    /// When the one who was asked last answered.
    pub(super) fn answered(&self) -> Option<Instant> {
        self.answered
    }

    pub(super) fn primary_is_absent(&mut self, error: SubscriberError) {
        self.primary.error = Some(error);
    }

    /// The primary answers, since `answered`: both begin anew.
    pub(super) fn primary_answered(&mut self, now: Instant, answered: Instant) {
        self.primary.answered(now);
        self.backup.answered(now);
        (self.trusted, self.stands_in) = (true, false);
        self.answered = Some(answered);
    }

    pub(super) fn primary_failed(&mut self, now: Instant, delay: Duration, error: SubscriberError) {
        self.primary.failed(now, delay, error);
    }

    pub(super) fn backup_answered(&mut self, now: Instant, delay: Duration) {
        self.backup.answered(now + delay);
        self.stands_in = true;
        self.answered = Some(now);
    }

    pub(super) fn backup_failed(&mut self, now: Instant, delay: Duration, error: SubscriberError) {
        self.backup.failed(now, delay, error);
        self.stands_in = false;
    }

    /// What is said when nobody delivered: nothing, as long as the backup stands in for the primary, or
    /// the troubles of both.
    pub(super) fn verdict(&self) -> Result<(), SubscriberError> {
        let Some(primary) = self.primary.error.as_ref().filter(|_| !self.stands_in) else { return Ok(()) };
        match &self.backup.error {
            None => Err(primary.clone()),
            Some(backup) => {
                let both = format!("{}; and the backup: {}", primary.reason(), backup.reason());
                Err(SubscriberError::Unavailable(both))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn away() -> SubscriberError {
        SubscriberError::Unavailable("away".into())
    }

    #[tokio::test(start_paused = true)]
    async fn the_backup_is_asked_only_while_the_primary_fails_and_each_at_its_own_pace() {
        let now = Instant::now();
        let mut turns = Turns::new(now);
        assert_eq!((turns.next(now, false), turns.rest(now, false)), (Ask::Primary, None));
        turns.primary_answered(now, now);
        assert_eq!(turns.next(now, false), Ask::Primary, "a well primary is always asked");
        turns.primary_failed(now, SECOND * 3, away());
        assert_eq!(turns.verdict(), Err(away()));
        assert_eq!((turns.next(now, false), turns.rest(now, false)), (Ask::Backup, Some(Duration::ZERO)));
        turns.backup_answered(now, SECOND);
        assert_eq!(turns.verdict(), Ok(()), "the backup stands in");
        assert_eq!((turns.next(now, false), turns.rest(now, false)), (Ask::Nobody, Some(SECOND)));
        assert_eq!(turns.next(now + SECOND, false), Ask::Backup);
        turns.backup_failed(now + SECOND, SECOND * 8, away());
        let said = turns.verdict().unwrap_err().to_string();
        assert_eq!(said, "the transport is unavailable: away; and the backup: away", "the kind is said once");
        assert_eq!(turns.rest(now + SECOND, false), Some(SECOND * 2));
        assert_eq!(turns.next(now + SECOND * 3, false), Ask::Primary);
        turns.primary_answered(now + SECOND * 3, now + SECOND * 3);
        assert_eq!((turns.primary_failures(), turns.backup_failures()), (0, 0), "success resets both");
        assert_eq!(turns.next(now + SECOND * 3, false), Ask::Primary);
    }

    #[tokio::test(start_paused = true)]
    async fn a_primary_without_patience_leaves_the_backup_its_turn() {
        let now = Instant::now();
        let mut turns = Turns::new(now);
        turns.primary_failed(now, Duration::ZERO, away());
        let soon = now + SHORTEST_REST;
        assert_eq!((turns.next(now, false), turns.next(soon, false)), (Ask::Backup, Ask::Backup));
        turns.backup_failed(soon, Duration::ZERO, away());
        assert_eq!(turns.rest(soon, false), Some(Duration::ZERO));
        assert_eq!(turns.next(soon, false), Ask::Primary);
        turns.primary_failed(soon, Duration::ZERO, away());
        assert_eq!(turns.rest(soon, false), Some(SHORTEST_REST), "two without patience do not spin");
    }

    #[tokio::test(start_paused = true)]
    async fn while_the_primary_is_absent_nobody_rests_for_long() {
        let now = Instant::now();
        let mut turns = Turns::new(now);
        turns.primary_is_absent(away());
        assert_eq!(turns.next(now, true), Ask::Backup);
        turns.backup_failed(now, SECOND * 30, away());
        assert_eq!((turns.next(now, true), turns.rest(now, true)), (Ask::Nobody, Some(LONGEST_REST)));
        assert_eq!(turns.next(now, false), Ask::Primary, "once it is there it is asked at once");
    }
}
