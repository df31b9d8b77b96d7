//! The form in which a history is stored and sent: one line of JSON per entry.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Entry, HistoryEntry, ReceivedEvent};
use crate::failure::ErrorObject;
use crate::hash::InputHash;
use crate::id::RunId;
use crate::name::WorkflowKey;
use crate::payload::{Payload, present};
use crate::retry::RetryStrategy;
use crate::run::state::RunState;
use crate::run::status::RunStatus;
use crate::run::wait::WaitOn;
use crate::time::Timestamp;

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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    event: Option<ReceivedEvent>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    events: Option<Vec<ReceivedEvent>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    on: Option<WaitOn>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    at_event: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    awaited: Option<RunStatus>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    run: Option<RunId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    workflow: Option<WorkflowKey>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reference: Option<std::borrow::Cow<'a, str>>,
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
    EventReceived,
    WaitOpened,
    WaitCompleted,
    WaitTimedOut,
    WaitDropped,
    ChildOpened,
    ChildEnded,
    ChildCancelled,
    TaskSeeded,
    Continued,
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

/// Reads the entries of a list: the lines of a page, or of several, as one JSON array.
pub fn parse_list(list: &str) -> Result<Vec<HistoryEntry>, HistoryError> {
    let wires: Vec<Wire<'_>> = serde_json::from_str(list).map_err(|error| HistoryError(error.to_string()))?;
    wires.into_iter().map(TryInto::try_into).collect()
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
            event: None,
            events: None,
            on: None,
            at_event: None,
            awaited: None,
            run: None,
            workflow: None,
            reference: None,
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
            Entry::EventReceived { event } => {
                wire.k = Kind::EventReceived;
                wire.event = Some(event.clone());
            }
            Entry::WaitOpened { ordinal, on, awaited, timeout_at } => {
                wire.k = Kind::WaitOpened;
                wire.awaited = *awaited;
                wire.n = Some(*ordinal);
                wire.on = Some(on.clone());
                wire.due = *timeout_at;
            }
            Entry::WaitCompleted { ordinal, event } => {
                wire.k = Kind::WaitCompleted;
                wire.n = Some(*ordinal);
                wire.at_event = *event;
            }
            Entry::WaitTimedOut { ordinal } => {
                wire.k = Kind::WaitTimedOut;
                wire.n = Some(*ordinal);
            }
            Entry::WaitDropped { ordinal } => {
                wire.k = Kind::WaitDropped;
                wire.n = Some(*ordinal);
            }
            Entry::ChildOpened { ordinal, run, workflow, input_hash, reference_id } => {
                wire.k = Kind::ChildOpened;
                wire.n = Some(*ordinal);
                wire.run = *run;
                wire.workflow = Some(workflow.clone());
                wire.hash = Some(input_hash.as_str().into());
                wire.reference = reference_id.as_deref().map(Into::into);
            }
            Entry::ChildEnded { ordinal, state } => {
                wire.k = Kind::ChildEnded;
                wire.n = Some(*ordinal);
                wire.state = Some(state.clone());
            }
            Entry::ChildCancelled { ordinal } => {
                wire.k = Kind::ChildCancelled;
                wire.n = Some(*ordinal);
            }
            Entry::TaskSeeded { ordinal, name, input_hash, input } => {
                wire.k = Kind::TaskSeeded;
                wire.n = Some(*ordinal);
                wire.name = Some(name.into());
                wire.hash = Some(input_hash.as_str().into());
                wire.input = input.clone();
            }
            Entry::Continued { input, events } => {
                wire.k = Kind::Continued;
                wire.input = input.clone();
                wire.events = (!events.is_empty()).then(|| events.clone());
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
        let timeout_at = wire.due;
        let due = wire.due.ok_or_else(|| lack("due"));
        let error = wire.error.ok_or_else(|| lack("error"));
        let state = wire.state.ok_or_else(|| lack("state"));
        let hash = wire.hash.map(|hash| InputHash::from(hash.into_owned())).ok_or_else(|| lack("hash"));
        let entry = match kind {
            Kind::Created => Entry::Created { input: wire.input },
            Kind::Run => Entry::Run { attempt: attempts?, state: state? },
            Kind::TaskOpened => Entry::TaskOpened {
                ordinal: ordinal?,
                name: name?,
                input_hash: hash?,
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
            Kind::EventReceived => Entry::EventReceived { event: wire.event.ok_or_else(|| lack("event"))? },
            Kind::WaitOpened => {
                let on = wire.on.ok_or_else(|| lack("on"))?;
                Entry::WaitOpened { ordinal: ordinal?, on, awaited: wire.awaited, timeout_at }
            }
            Kind::WaitCompleted => Entry::WaitCompleted { ordinal: ordinal?, event: wire.at_event },
            Kind::WaitTimedOut => Entry::WaitTimedOut { ordinal: ordinal? },
            Kind::WaitDropped => Entry::WaitDropped { ordinal: ordinal? },
            Kind::ChildOpened => Entry::ChildOpened {
                ordinal: ordinal?,
                run: wire.run,
                workflow: wire.workflow.ok_or_else(|| lack("workflow"))?,
                input_hash: hash?,
                reference_id: wire.reference.map(|id| id.into_owned()),
            },
            Kind::ChildEnded => Entry::ChildEnded { ordinal: ordinal?, state: state? },
            Kind::ChildCancelled => Entry::ChildCancelled { ordinal: ordinal? },
            Kind::TaskSeeded => {
                Entry::TaskSeeded { ordinal: ordinal?, name: name?, input_hash: hash?, input: wire.input }
            }
            Kind::Continued => Entry::Continued { input: wire.input, events: wire.events.unwrap_or_default() },
        };
        Ok(HistoryEntry { at: wire.at, entry })
    }
}

impl Serialize for HistoryEntry {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Wire::from(self).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for HistoryEntry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Wire::deserialize(deserializer)?.try_into().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(reference: Option<&str>) -> ReceivedEvent {
        ReceivedEvent {
            name: "paid".into(),
            data: Some(Payload::from_json("null").unwrap()),
            reference_id: reference.map(Into::into),
            received_at: Timestamp::from_millis(9),
        }
    }

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
            Entry::EventReceived { event: event(None) },
            Entry::WaitOpened { ordinal: 0, on: WaitOn::Event("paid".into()), awaited: None, timeout_at: None },
            Entry::WaitOpened {
                ordinal: 1,
                on: WaitOn::Child(3),
                awaited: Some(RunStatus::Failed),
                timeout_at: Some(at),
            },
            Entry::WaitCompleted { ordinal: 0, event: Some(0) },
            Entry::WaitTimedOut { ordinal: 1 },
            Entry::ChildOpened {
                ordinal: 3,
                run: Some(RunId::from_bits(1 << 24)),
                workflow: WorkflowKey::user("part", "1"),
                input_hash: InputHash::from("abc".to_owned()),
                reference_id: Some("r".into()),
            },
            Entry::ChildEnded { ordinal: 3, state: RunState::Completed { output: None } },
            Entry::ChildCancelled { ordinal: 3 },
            Entry::Continued { input: None, events: vec![event(Some("r"))] },
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
