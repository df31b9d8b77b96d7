//! The history of a run: what happened, in order, packed as it is stored. A run's record is the
//! fold of its history; nothing else is kept of its tasks and sleeps.

use serde::{Deserialize, Serialize};

use super::state::RunState;
use crate::failure::ErrorObject;
use crate::hash::InputHash;
use crate::payload::{Payload, present};
use crate::retry::RetryStrategy;
use crate::time::Timestamp;

/// One thing that happened.
#[derive(Clone, Debug, PartialEq)]
pub struct HistoryEntry {
    /// When, by the server's clock.
    pub at: Timestamp,
    /// What.
    pub entry: Entry,
}

/// What can happen to a run.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "fields are named as in the contract; each variant says what they are for")]
pub enum Entry {
    /// The run was created with this input.
    Created { input: Option<Payload> },
    /// The run moved to a state, in its `attempt`-th attempt.
    Run { attempt: u64, state: RunState },
    /// A task was opened; its first attempt may begin.
    TaskOpened {
        ordinal: u32,
        name: String,
        input_hash: InputHash,
        input: Option<Payload>,
        retry: Option<RetryStrategy>,
    },
    /// A further attempt of a parked task may begin.
    TaskRestarted { ordinal: u32, attempts: u64 },
    /// A task failed and waits for its next attempt.
    TaskParked { ordinal: u32, attempts: u64, error: ErrorObject, next_attempt_at: Timestamp },
    /// A task ended with a result.
    TaskCompleted { ordinal: u32, attempts: u64, output: Option<Payload> },
    /// A task ended with an error.
    TaskFailed { ordinal: u32, attempts: u64, error: ErrorObject },
    /// A sleep began.
    SleepOpened { ordinal: u32, name: String, wakeup_at: Timestamp },
    /// A sleep is over.
    SleepCompleted { ordinal: u32 },
    /// A sleep was cut short.
    SleepCancelled { ordinal: u32 },
    /// The handler read the time and was told this.
    TimeRead { time: Timestamp },
}

impl Entry {
    /// Whether the entry is listed as a transition of the run or of a task.
    pub fn is_transition(&self) -> bool {
        !matches!(
            self,
            Entry::Created { .. }
                | Entry::SleepOpened { .. }
                | Entry::SleepCompleted { .. }
                | Entry::SleepCancelled { .. }
                | Entry::TimeRead { .. }
        )
    }

    /// Whether the entry settles a step: gives it the outcome that replay returns.
    pub fn settles(&self) -> bool {
        matches!(
            self,
            Entry::TaskCompleted { .. }
                | Entry::TaskFailed { .. }
                | Entry::SleepCompleted { .. }
                | Entry::SleepCancelled { .. }
        )
    }
}

/// The flat form of a [`HistoryEntry`]. Keys are short: they are written a few times per run.
#[derive(Serialize, Deserialize)]
struct Wire<'a> {
    at: Timestamp,
    k: Kind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    n: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    attempts: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<std::borrow::Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hash: Option<std::borrow::Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    retry: Option<RetryStrategy>,
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    input: Option<Payload>,
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    output: Option<Payload>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<ErrorObject>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    due: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    state: Option<RunState>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Created,
    Run,
    TaskOpened,
    TaskRestarted,
    TaskParked,
    TaskCompleted,
    TaskFailed,
    SleepOpened,
    SleepCompleted,
    SleepCancelled,
    TimeRead,
}

/// A stored history that cannot be read: the store was changed by something else, or by a newer
/// version of this program.
#[derive(Debug, thiserror::Error)]
#[error("a history entry cannot be read ({0}): the store was written by a newer version or was damaged")]
pub struct HistoryError(String);

/// Appends entries to a page: one line of JSON each.
pub fn append(page: &mut String, entries: &[HistoryEntry]) -> Result<(), HistoryError> {
    for entry in entries {
        let line = serde_json::to_string(&Wire::from(entry)).map_err(|error| HistoryError(error.to_string()))?;
        page.push_str(&line);
        page.push('\n');
    }
    Ok(())
}

/// Reads the entries of a page.
pub fn parse(page: &str) -> impl Iterator<Item = Result<HistoryEntry, HistoryError>> + '_ {
    page.lines().map(|line| {
        let wire: Wire<'_> = serde_json::from_str(line).map_err(|error| HistoryError(error.to_string()))?;
        wire.try_into()
    })
}

impl<'a> From<&'a HistoryEntry> for Wire<'a> {
    fn from(HistoryEntry { at, entry }: &'a HistoryEntry) -> Self {
        let mut wire = Wire {
            at: *at,
            k: Kind::Created,
            n: None,
            attempts: None,
            name: None,
            hash: None,
            retry: None,
            input: None,
            output: None,
            error: None,
            due: None,
            state: None,
        };
        match entry {
            Entry::Created { input } => wire.input = input.clone(),
            Entry::Run { attempt, state } => {
                wire.k = Kind::Run;
                wire.attempts = Some(*attempt);
                wire.state = Some(state.clone());
            }
            Entry::TaskOpened { ordinal, name, input_hash, input, retry } => {
                wire.k = Kind::TaskOpened;
                wire.n = Some(*ordinal);
                wire.name = Some(name.into());
                wire.hash = Some(input_hash.as_str().into());
                wire.input = input.clone();
                wire.retry = retry.clone();
            }
            Entry::TaskRestarted { ordinal, attempts } => {
                wire.k = Kind::TaskRestarted;
                wire.n = Some(*ordinal);
                wire.attempts = Some(*attempts);
            }
            Entry::TaskParked { ordinal, attempts, error, next_attempt_at } => {
                wire.k = Kind::TaskParked;
                wire.n = Some(*ordinal);
                wire.attempts = Some(*attempts);
                wire.error = Some(error.clone());
                wire.due = Some(*next_attempt_at);
            }
            Entry::TaskCompleted { ordinal, attempts, output } => {
                wire.k = Kind::TaskCompleted;
                wire.n = Some(*ordinal);
                wire.attempts = Some(*attempts);
                wire.output = output.clone();
            }
            Entry::TaskFailed { ordinal, attempts, error } => {
                wire.k = Kind::TaskFailed;
                wire.n = Some(*ordinal);
                wire.attempts = Some(*attempts);
                wire.error = Some(error.clone());
            }
            Entry::SleepOpened { ordinal, name, wakeup_at } => {
                wire.k = Kind::SleepOpened;
                wire.n = Some(*ordinal);
                wire.name = Some(name.into());
                wire.due = Some(*wakeup_at);
            }
            Entry::SleepCompleted { ordinal } => {
                wire.k = Kind::SleepCompleted;
                wire.n = Some(*ordinal);
            }
            Entry::SleepCancelled { ordinal } => {
                wire.k = Kind::SleepCancelled;
                wire.n = Some(*ordinal);
            }
            Entry::TimeRead { time } => {
                wire.k = Kind::TimeRead;
                wire.due = Some(*time);
            }
        }
        wire
    }
}

impl TryFrom<Wire<'_>> for HistoryEntry {
    type Error = HistoryError;

    fn try_from(wire: Wire<'_>) -> Result<Self, HistoryError> {
        let kind = wire.k;
        let lack = |field: &str| HistoryError(format!("{kind:?} lacks `{field}`"));
        let ordinal = wire.n.ok_or_else(|| lack("n"));
        let attempts = wire.attempts.ok_or_else(|| lack("attempts"));
        let name = wire.name.map(|name| name.into_owned()).ok_or_else(|| lack("name"));
        let due = wire.due.ok_or_else(|| lack("due"));
        let error = wire.error.ok_or_else(|| lack("error"));
        let entry = match kind {
            Kind::Created => Entry::Created { input: wire.input },
            Kind::Run => Entry::Run { attempt: attempts?, state: wire.state.ok_or_else(|| lack("state"))? },
            Kind::TaskOpened => Entry::TaskOpened {
                ordinal: ordinal?,
                name: name?,
                input_hash: InputHash::from(wire.hash.ok_or_else(|| lack("hash"))?.into_owned()),
                input: wire.input,
                retry: wire.retry,
            },
            Kind::TaskRestarted => Entry::TaskRestarted { ordinal: ordinal?, attempts: attempts? },
            Kind::TaskParked => {
                Entry::TaskParked { ordinal: ordinal?, attempts: attempts?, error: error?, next_attempt_at: due? }
            }
            Kind::TaskCompleted => Entry::TaskCompleted { ordinal: ordinal?, attempts: attempts?, output: wire.output },
            Kind::TaskFailed => Entry::TaskFailed { ordinal: ordinal?, attempts: attempts?, error: error? },
            Kind::SleepOpened => Entry::SleepOpened { ordinal: ordinal?, name: name?, wakeup_at: due? },
            Kind::SleepCompleted => Entry::SleepCompleted { ordinal: ordinal? },
            Kind::SleepCancelled => Entry::SleepCancelled { ordinal: ordinal? },
            Kind::TimeRead => Entry::TimeRead { time: due? },
        };
        Ok(HistoryEntry { at: wire.at, entry })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_round_trip_through_a_page() {
        let at = Timestamp::from_millis(3);
        let entries: Vec<HistoryEntry> = [
            Entry::Created { input: Some(Payload::from_json("{\"a\": 1}").unwrap()) },
            Entry::Run { attempt: 1, state: RunState::Running },
            Entry::TaskOpened {
                ordinal: 0,
                name: "charge".into(),
                input_hash: InputHash::from("abc".to_owned()),
                input: Some(Payload::from_json("null").unwrap()),
                retry: None,
            },
            Entry::TaskParked { ordinal: 0, attempts: 1, error: ErrorObject::new("E", "m\nn"), next_attempt_at: at },
            Entry::TaskRestarted { ordinal: 0, attempts: 2 },
            Entry::TaskCompleted { ordinal: 0, attempts: 2, output: None },
            Entry::SleepOpened { ordinal: 0, name: "nap".into(), wakeup_at: at },
            Entry::SleepCancelled { ordinal: 0 },
        ]
        .into_iter()
        .map(|entry| HistoryEntry { at, entry })
        .collect();
        let mut page = String::new();
        append(&mut page, &entries).unwrap();
        assert_eq!(parse(&page).collect::<Result<Vec<_>, _>>().unwrap(), entries);
    }

    #[test]
    fn a_damaged_entry_is_an_error_that_says_so() {
        let error = parse("{\"at\":1,\"k\":\"task_completed\"}").next().unwrap().unwrap_err();
        assert!(error.to_string().contains("`n`"), "{error}");
    }
}
