//! Bugs that a campaign can be given, to see that it finds them. No product has them: the worker's line to the server, its
//! subscriber, its workflow and the callers' line behave as if theirs did.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use aiki_core::report::Transition;
use aiki_core::run::TaskState;
use aiki_core::{Payload, Report, RunId, RunRecord};
use clap::ValueEnum;

/// One start of so many is not stored.
const LOST: u64 = 10;

/// Something that no product may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Bug {
    /// The worker acknowledges a delivery when it is received.
    EarlyAck,
    /// The worker sends what it has on record already once more, as another report.
    DoubleRecord,
    /// The worker executes a task once more when its result is on record.
    LateBody,
    /// Some starts are acknowledged and not stored.
    LostCreate,
    /// A claim is answered without the result that was recorded last, once for each run and worker.
    StaleRecord,
    /// Runs answer something else.
    WrongAnswer,
    /// The worker logs the address of Redis as it is.
    LoggedSecret,
}

impl Bug {
    /// How it is called on the command line.
    pub fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

/// What a line with a bug remembers.
#[derive(Debug, Default)]
pub struct Buggy {
    bug: Option<Bug>,
    stale: Mutex<HashSet<RunId>>,
    starts: AtomicU64,
}

impl Buggy {
    /// A line with this bug, or with none.
    pub fn new(bug: Option<Bug>) -> Self {
        Self { bug, ..Self::default() }
    }

    /// The run that a start is answered which is not stored.
    pub fn lost_start(&self) -> Option<RunId> {
        if self.bug != Some(Bug::LostCreate) {
            return None;
        }
        let number = self.starts.fetch_add(1, Ordering::Relaxed);
        number.is_multiple_of(LOST).then(|| RunId::from_bits((u128::from(number) + 1) << 24))
    }

    /// Spoils what a claim was answered.
    pub fn granted(&self, record: &mut RunRecord) {
        if self.bug != Some(Bug::StaleRecord) {
            return;
        }
        let last = record.tasks.iter_mut().filter(|task| task.settled.is_some()).max_by_key(|task| task.settled);
        if let Some(task) = last
            && self.stale.lock().unwrap_or_else(PoisonError::into_inner).insert(record.id)
        {
            task.state = TaskState::Running { attempts: task.state.attempts() };
            task.settled = None;
        }
    }

    /// Spoils a report on its way.
    pub fn sent(&self, report: &mut Report) {
        if self.bug != Some(Bug::WrongAnswer) {
            return;
        }
        for transition in &mut report.transitions {
            if let Transition::Completed { output } = transition {
                *output = Payload::encode(&7_u64).ok().flatten();
            }
        }
    }

    /// What is sent behind a report that ended tasks.
    pub fn again(&self, report: &Report) -> Option<Report> {
        let wanted = self.bug == Some(Bug::DoubleRecord);
        wanted.then(|| Report { seq: report.seq + 1, ..report.clone() })
    }
}
