//! From the contract's record to ours.

use std::collections::BTreeMap;

use aiki_core::failure::ErrorObject;
use aiki_core::name::WorkflowKey;
use aiki_core::run::record::TaskRecord;
use aiki_core::run::{
    ChildRecord, Ordinals, ReceivedEvent, RunState, SleepRecord, SleepState, TaskState, WaitOn, WaitRecord, WaitState,
};
use aiki_core::{Name, RunId, RunRecord, TaskId};
use aiki_wire::contract::run_record::{SleepStatus, WorkflowRunRecord};
use aiki_wire::contract::run_waits::{ChildInfo, ChildWaitStatus, EventWaitStatus};

/// A record with what has to be known to write on.
pub(super) struct Folded {
    pub(super) record: RunRecord,
    /// The server's ids of the tasks, by our ordinal.
    pub(super) tasks: Vec<TaskId>,
    pub(super) children: Vec<RunId>,
}

/// The events of a run in the order of their arrival.
pub(super) fn events(run: &WorkflowRunRecord) -> Vec<ReceivedEvent> {
    let mut events = Vec::new();
    for (name, entries) in &run.event_waits {
        for entry in entries.iter().filter(|entry| entry.status == EventWaitStatus::Received) {
            events.push(ReceivedEvent {
                name: name.clone(),
                data: entry.data.clone(),
                reference_id: entry.reference.as_ref().map(|reference| reference.id.clone()),
                received_at: entry.received_at.unwrap_or_default(),
            });
        }
    }
    events.sort_by_key(|event| event.received_at);
    events
}

/// The children in the order of their ids, each with the last part of its address.
pub(super) fn children(run: &WorkflowRunRecord) -> Vec<(&ChildInfo, String)> {
    let mut children: Vec<_> = run
        .child_workflow_runs
        .iter()
        .flat_map(|(address, infos)| infos.iter().map(move |info| (address, info)))
        .map(|(address, info)| {
            let front = format!("{}:{}:", info.name, info.version_id);
            (info, address.strip_prefix(&front).unwrap_or(address).to_owned())
        })
        .collect();
    children.sort_by_key(|(info, _)| info.id);
    children
}

/// How a child ended, as far as the record tells.
pub(super) fn ended(info: &ChildInfo) -> Option<RunState> {
    let waits = info.waits.completed.iter().chain(&info.waits.failed).chain(&info.waits.cancelled);
    waits.filter_map(|wait| wait.child_workflow_run_state.clone()).next_back()
}

/// Folds a record; `ends` are ends of children that it does not tell itself.
///
/// The contract does not say in which order steps were settled: tasks come first here, in the order of their ids,
/// then sleeps, then waits that timed out.
pub(super) fn fold(run: WorkflowRunRecord, namespace: &Name, ends: &BTreeMap<RunId, RunState>) -> Folded {
    let mut settled = 0;
    let mut settle = |is: bool| {
        settled += u64::from(is);
        is.then_some(settled)
    };
    let events = events(&run);
    let mut infos: Vec<_> = run.tasks.values().flatten().cloned().collect();
    infos.sort_by_key(|info| info.id);
    let ids: Vec<TaskId> = infos.iter().map(|info| info.id).collect();
    let tasks: Vec<TaskRecord> = infos
        .into_iter()
        .enumerate()
        .map(|(ordinal, info)| {
            let attempts = info.state.attempts;
            let state = TaskState::try_from(info.state).unwrap_or_else(|error| TaskState::Failed {
                attempts,
                error: ErrorObject::new("Incomplete", error.to_string()),
            });
            let over = matches!(state, TaskState::Completed { .. } | TaskState::Failed { .. });
            TaskRecord {
                id: run.id.task(ordinal as u32),
                name: info.name,
                input_hash: info.input_hash,
                input: None,
                retry: None,
                state,
                run_attempt: run.attempts,
                settled: settle(over),
                checkpoint: None,
            }
        })
        .collect();
    let mut sleeps = Vec::new();
    for (name, entries) in &run.sleeps {
        for entry in entries {
            let state = match entry.status {
                SleepStatus::Sleeping => continue,
                SleepStatus::Completed => SleepState::Completed {
                    duration_ms: entry.duration_ms.unwrap_or_default(),
                    completed_at: entry.completed_at.unwrap_or_default(),
                },
                SleepStatus::Cancelled => {
                    SleepState::Cancelled { cancelled_at: entry.cancelled_at.unwrap_or_default() }
                }
            };
            let (name, opened_at) = (name.clone(), run.created_at);
            sleeps.push(SleepRecord { name, opened_at, state, settled: settle(true), discarded: false });
        }
    }
    let mut waits: Vec<WaitRecord> = Vec::new();
    let mut wait = |on: WaitOn, state: WaitState, settled| {
        let ordinal = waits.len() as u32;
        waits.push(WaitRecord { ordinal, on, awaited: None, ended_at: None, state, settled, discarded: false });
    };
    for (name, entries) in &run.event_waits {
        // What lies behind the last timeout need not have been waited for yet: the inbox has it.
        let taken = entries.iter().rposition(|entry| entry.status == EventWaitStatus::Timeout).map_or(0, |at| at + 1);
        let mut places = events.iter().enumerate().filter(|(_, event)| event.name == *name).map(|(at, _)| at as u32);
        for entry in &entries[..taken] {
            let state = match entry.status {
                EventWaitStatus::Received => WaitState::Completed { event: places.next() },
                EventWaitStatus::Timeout => {
                    WaitState::TimedOut { timed_out_at: entry.timed_out_at.unwrap_or_default() }
                }
            };
            wait(WaitOn::Event(name.clone()), state, settle(true));
        }
    }
    let mut records = Vec::new();
    for (ordinal, (info, last)) in children(&run).into_iter().enumerate() {
        let ordinal = ordinal as u32;
        for timeout in info.waits.completed.iter().filter(|wait| wait.status == ChildWaitStatus::Timeout) {
            let timed_out_at = timeout.timed_out_at.unwrap_or_default();
            wait(WaitOn::Child(ordinal), WaitState::TimedOut { timed_out_at }, settle(true));
        }
        records.push(ChildRecord {
            ordinal,
            run: Some(info.id),
            workflow: WorkflowKey::user(info.name.clone(), info.version_id.clone()),
            input_hash: info.input_hash.clone(),
            reference_id: (last != info.input_hash.as_str()).then_some(last),
            ended: ended(info).or_else(|| ends.get(&info.id).cloned()),
            cancelled: false,
            run_attempt: run.attempts,
            discarded: false,
        });
    }
    let over = records.iter().filter(|child| child.ended.is_some()).count();
    let ordinals = Ordinals {
        tasks: tasks.len() as u32,
        sleeps: sleeps.len() as u32,
        waits: waits.len() as u32,
        children: records.len() as u32,
        transitions: 0,
        signals: (events.len() + over) as u32,
    };
    let children = records.iter().filter_map(|child| child.run).collect();
    let record = RunRecord {
        id: run.id,
        namespace: namespace.clone(),
        workflow: WorkflowKey { source: run.source, name: run.name, version: run.version_id },
        created_at: run.created_at,
        started_at: None,
        revision: run.revision,
        state_transition_id: run.state_transition_id,
        input: run.input,
        input_hash: run.input_hash,
        reference_id: run.reference_id,
        schedule: run.schedule_id,
        options: run.options,
        priority: run.priority.unwrap_or_default(),
        attempts: run.attempts,
        state: run.state,
        parent: run.parent_workflow_run_id,
        deadline: run.deadline,
        trace: None,
        tasks,
        sleeps,
        times: Vec::new(),
        events,
        waits,
        children: records,
        seen: None,
        ordinals,
        history_len: 0,
    };
    Folded { record, tasks: ids, children }
}
