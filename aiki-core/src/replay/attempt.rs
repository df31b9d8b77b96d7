//! The clocks of one attempt of a task.

use std::time::Duration;

use super::step::TaskLimits;
use crate::failure::ErrorObject;
use crate::time::Timestamp;

/// A body that was told that it took too long has so much time to clean up.
pub(super) const GRACE: Duration = Duration::from_millis(100);
/// A checkpoint is sent at most this often for one task; the latest one goes.
pub(super) const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(1);

/// The name of the error of a task whose attempt took too long.
pub const TASK_TIMED_OUT: &str = "TaskTimedOut";

/// Which limit an attempt broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeLimit {
    /// It took longer than it may in all.
    StartToClose,
    /// It gave no heartbeat for too long.
    Heartbeat,
}

impl TimeLimit {
    /// The error of the attempt.
    pub fn error(self) -> ErrorObject {
        let text = match self {
            TimeLimit::StartToClose => "the attempt took longer than its time limit",
            TimeLimit::Heartbeat => "the attempt gave no heartbeat in time",
        };
        ErrorObject::new(TASK_TIMED_OUT, text)
    }
}

/// When something about the attempt under way is due.
#[derive(Debug, Default)]
pub(super) struct Attempt {
    limit: Option<Timestamp>,
    beat: Option<Timestamp>,
    grace: Option<Timestamp>,
    flush: Option<Timestamp>,
    broken: Option<TimeLimit>,
    told: bool,
    sent_at: Option<Timestamp>,
}

/// What has become due.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum AttemptDue {
    /// The limit is broken: the body is told.
    Overdue,
    /// The body did not end after it was told.
    Abandoned,
    /// The latest checkpoint may be sent.
    Flush,
}

impl Attempt {
    /// The attempt begins now.
    pub(super) fn begin(limits: TaskLimits, deadline: Option<Timestamp>, now: Timestamp) -> Self {
        let limit = limits.start_to_close.map(|limit| now.after(limit));
        let limit = match (limit, deadline) {
            (Some(limit), Some(deadline)) => Some(limit.min(deadline)),
            (limit, deadline) => limit.or(deadline),
        };
        Self { limit, beat: limits.heartbeat.map(|beat| now.after(beat)), ..Self::default() }
    }

    /// The attempt is over. Another one in the same process keeps to the same pace of checkpoints.
    pub(super) fn end(&mut self) {
        *self = Self { sent_at: self.sent_at, flush: self.flush, ..Self::default() };
    }

    /// The pace of checkpoints of an earlier attempt in the same process goes on.
    pub(super) fn paced_as(self, earlier: &Self) -> Self {
        Self { sent_at: earlier.sent_at, flush: earlier.flush, ..self }
    }

    /// When to look again.
    pub(super) fn due(&self) -> Option<Timestamp> {
        [self.limit, self.beat, self.grace, self.flush].into_iter().flatten().min()
    }

    /// What has become due by now, one thing at a time.
    pub(super) fn take_due(&mut self, now: Timestamp) -> Option<AttemptDue> {
        let is_due = |at: Option<Timestamp>| at.is_some_and(|at| at <= now);
        if is_due(self.flush) {
            (self.flush, self.sent_at) = (None, Some(now));
            return Some(AttemptDue::Flush);
        }
        if is_due(self.limit) || is_due(self.beat) {
            self.broken = Some(if is_due(self.limit) { TimeLimit::StartToClose } else { TimeLimit::Heartbeat });
            (self.limit, self.beat, self.grace) = (None, None, Some(now.after(GRACE)));
            return Some(AttemptDue::Overdue);
        }
        if is_due(self.grace) {
            self.grace = None;
            return Some(AttemptDue::Abandoned);
        }
        None
    }

    /// The body gave a heartbeat. Answers whether its checkpoint is to be sent now.
    pub(super) fn beat(&mut self, limits: TaskLimits, has_checkpoint: bool, now: Timestamp) -> bool {
        if self.broken.is_none() {
            self.beat = limits.heartbeat.map(|beat| now.after(beat));
        }
        if !has_checkpoint || self.flush.is_some() {
            return false;
        }
        let next = self.sent_at.map(|sent| sent.after(CHECKPOINT_INTERVAL)).filter(|next| *next > now);
        match next {
            Some(_) => self.flush = next,
            None => self.sent_at = Some(now),
        }
        next.is_none()
    }

    /// Whether a checkpoint waits to be sent.
    pub(super) fn owes_checkpoint(&self) -> bool {
        self.flush.is_some()
    }

    /// The limit that the attempt broke.
    pub(super) fn broken(&self) -> Option<TimeLimit> {
        self.broken
    }

    /// Whether the body may still clean up; it is told of the broken limit once.
    pub(super) fn tell(&mut self) -> bool {
        !std::mem::replace(&mut self.told, true)
    }

    pub(super) fn is_abandoned(&self) -> bool {
        self.broken.is_some() && self.grace.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: TaskLimits =
        TaskLimits { start_to_close: Some(Duration::from_secs(10)), heartbeat: Some(Duration::from_secs(2)) };

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_millis(ms)
    }

    #[test]
    fn heartbeats_keep_an_attempt_alive_up_to_its_whole_limit() {
        let mut attempt = Attempt::begin(LIMITS, None, at(0));
        for second in 1..10 {
            assert_eq!(attempt.take_due(at(second * 1_000)), None);
            attempt.beat(LIMITS, false, at(second * 1_000));
        }
        assert_eq!(attempt.take_due(at(10_000)), Some(AttemptDue::Overdue));
        assert_eq!(attempt.broken(), Some(TimeLimit::StartToClose));
        assert_eq!(attempt.due(), Some(at(10_100)));
        assert_eq!(attempt.take_due(at(10_100)), Some(AttemptDue::Abandoned));
    }

    #[test]
    fn a_silent_attempt_is_overdue() {
        let mut attempt = Attempt::begin(LIMITS, None, at(0));
        assert_eq!(attempt.take_due(at(2_000)), Some(AttemptDue::Overdue));
        assert_eq!(attempt.broken(), Some(TimeLimit::Heartbeat));
    }

    #[test]
    fn the_deadline_of_the_run_limits_every_attempt() {
        let attempt = Attempt::begin(TaskLimits::default(), Some(at(50)), at(0));
        assert_eq!(attempt.due(), Some(at(50)));
    }

    #[test]
    fn many_checkpoints_are_sent_once_a_second() {
        let mut attempt = Attempt::begin(TaskLimits::default(), None, at(0));
        assert!(attempt.beat(LIMITS, true, at(0)));
        assert!(!attempt.beat(LIMITS, true, at(1)));
        assert!(!attempt.beat(LIMITS, true, at(2)));
        assert!(attempt.owes_checkpoint());
        assert_eq!(attempt.take_due(at(1_000)), Some(AttemptDue::Flush));
        assert!(!attempt.beat(LIMITS, true, at(1_500)) && !attempt.beat(LIMITS, true, at(2_000)));
    }
}
