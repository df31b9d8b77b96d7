//! What follows from a commit: announcements, timers, wake-ups, the list of workers.

use std::sync::Arc;

use aiki_core::run::head::{Announcement, Lease, RunHead};
use aiki_core::run::{RunState, RunStatus};
use aiki_core::{Name, RunId, Timestamp};

use crate::announcer::Announcer;
use crate::doubt::Doubt;
use crate::measure;
use crate::seekers::Seekers;
use crate::storage::ready_run;
use crate::timer::Timer;
use crate::watchers::Watchers;
use crate::workers::Workers;

/// What of a run decides which effects a change has.
pub(crate) struct Before {
    pub(crate) status: RunStatus,
    revision: u64,
    announce: Option<Announcement>,
    lease: Option<Lease>,
    /// Number of the claim and of its last report.
    reported: (u64, Option<u64>),
    signals: u32,
    ended: bool,
}

impl Before {
    pub(crate) fn of(head: &RunHead) -> Self {
        Self {
            status: head.state.status(),
            revision: head.revision,
            announce: head.announce,
            lease: head.lease.clone(),
            reported: reported(head),
            signals: head.signals,
            ended: head.state.is_terminal(),
        }
    }
}

fn reported(head: &RunHead) -> (u64, Option<u64>) {
    (head.epoch, head.last_report.as_ref().map(|last| last.seq))
}

/// A run that a commit changed.
pub(crate) struct Change<'a> {
    /// `None`: it is new.
    pub(crate) before: Option<&'a Before>,
    pub(crate) head: &'a RunHead,
}

impl Change<'_> {
    /// Whether the run has to be announced: it became ready, or is announced again by its age.
    fn is_announced(&self) -> bool {
        self.head.announce.is_some()
            && !self.head.held_back
            && self
                .before
                .is_none_or(|before| before.announce != self.head.announce || before.revision != self.head.revision)
    }

    /// Whether the run ended with this change.
    pub(crate) fn has_ended(&self) -> bool {
        let before = self.before.is_some_and(|before| before.ended);
        self.head.state.is_terminal() && !before
    }

    /// The worker to which something happened that it did not do itself: its claim is gone, or a signal
    /// has come.
    pub(crate) fn concerns(&self) -> Option<&Name> {
        let before = self.before?;
        let lease = before.lease.as_ref()?;
        // No report of its own cancels or pauses the run, though one may be in the same commit.
        let taken = matches!(self.head.state, RunState::Cancelled { .. } | RunState::Paused);
        let lost = self.head.lease.is_none() && (taken || before.reported == reported(self.head));
        (lost || before.signals != self.head.signals).then_some(&lease.owner)
    }

    fn lease_before(&self) -> Option<&Lease> {
        self.before.and_then(|before| before.lease.as_ref())
    }
}

/// Who held a run and who holds it now.
pub(crate) struct LeaseChange {
    pub(crate) namespace: Name,
    pub(crate) run: RunId,
    pub(crate) before: Option<Name>,
    pub(crate) after: Option<(Name, Timestamp)>,
}

/// Those who want to know.
pub(crate) struct Effects {
    /// Names this server among those of a store.
    pub(crate) server: u64,
    pub(crate) announcer: Option<Arc<Announcer>>,
    /// Commits of which nothing can be made known.
    pub(crate) doubt: Arc<Doubt>,
    pub(crate) seekers: Arc<Seekers>,
    pub(crate) timer: Arc<Timer>,
    pub(crate) watchers: Arc<Watchers>,
    pub(crate) workers: Arc<Workers>,
}

impl Effects {
    /// Makes a commit known. Never blocks.
    pub(crate) fn emit<'a>(&self, now: Timestamp, changes: impl Iterator<Item = Change<'a>>) {
        let mut ready = Vec::new();
        let mut leases = Vec::new();
        let mut concerned = Vec::new();
        let mut earliest = Timestamp::MAX;
        for change in changes {
            let head = change.head;
            if change.is_announced() {
                self.seekers.ready(head);
                if self.announcer.is_some() {
                    ready.push(ready_run(head));
                }
            }
            if let Some(due) = head.due_at() {
                earliest = earliest.min(due);
            }
            if change.before.is_none() {
                measure::started();
            }
            if head.state.is_terminal() {
                if change.before.is_none_or(|before| before.revision != head.revision) {
                    measure::ended(head);
                }
                self.watchers.ended(head);
            }
            if let Some(worker) = change.concerns() {
                concerned.push((head.namespace.clone(), worker.clone(), head.id));
            }
            if change.lease_before().is_some() || head.lease.is_some() {
                leases.push(LeaseChange {
                    namespace: head.namespace.clone(),
                    run: head.id,
                    before: change.lease_before().map(|lease| lease.owner.clone()),
                    after: head.lease.as_ref().map(|lease| (lease.owner.clone(), lease.since)),
                });
            }
        }
        self.timer.arm(earliest);
        self.workers.leases_changed(now, leases);
        for (namespace, worker, run) in concerned {
            self.workers.tell(&namespace, &worker, run);
        }
        if let Some(announcer) = &self.announcer {
            announcer.announce(ready);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use aiki_core::hash::input_hash;
    use aiki_core::name::WorkflowKey;
    use aiki_core::run::plan::{self, CreateRun, ReportContext, RunCommand};
    use aiki_core::{Report, Transition};

    use super::*;

    /// A run that `worker` holds, and its changes since.
    fn changed(change: impl FnOnce(&mut RunHead)) -> Option<Name> {
        let (now, mut entries) = (Timestamp::from_millis(1), Vec::new());
        let request = CreateRun::new(WorkflowKey::user("w", "1"), None, input_hash(None).unwrap());
        let mut head = plan::create(&request, RunId::from_bits(1 << 24), &Name::new("n"), now, &mut entries);
        plan::claim(&mut head, &Name::new("worker"), Duration::from_secs(9), now, &mut entries);
        let before = Before::of(&head);
        change(&mut head);
        Change { before: Some(&before), head: &head }.concerns().cloned()
    }

    fn report(head: &mut RunHead, transitions: Vec<Transition>) {
        let report = Report { run: head.id, epoch: head.epoch, seq: 1, signals: 0, transitions };
        let context = ReportContext { children: &[], history_limit: 100 };
        plan::report(head, &report, context, Timestamp::from_millis(2), &mut Vec::new()).unwrap();
    }

    #[test]
    fn a_worker_is_told_that_its_run_was_taken_even_when_it_reported_in_the_same_commit() {
        let now = Timestamp::from_millis(3);
        let time_read = || vec![Transition::TimeRead { time: now }];
        assert_eq!(changed(|head| report(head, time_read())), None, "its own doing is no news");
        assert_eq!(changed(|head| report(head, vec![Transition::Completed { output: None }])), None);
        let cancelled = changed(|head| {
            report(head, time_read());
            plan::cancel(head, None, now, &mut Vec::new()).unwrap();
        });
        assert_eq!(cancelled, Some(Name::new("worker")));
        let paused = changed(|head| {
            report(head, time_read());
            plan::command(head, RunCommand::Pause, now, &mut Vec::new()).unwrap();
        });
        assert_eq!(paused, Some(Name::new("worker")));
    }
}
