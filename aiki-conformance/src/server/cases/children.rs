//! Child runs: started with the report, told of once, cancelled with their parent.

use std::time::Duration;

use aiki_core::report::ChildStart;
use aiki_core::run::plan::{CreateRun, Deadline, MAX_DEPTH, MAX_LISTENERS};
use aiki_core::run::{FailureCause, QueuedReason, Reference, RunOptions, RunStatus, WaitState};
use aiki_core::server_client::{ClaimReady, ClaimedRun};
use aiki_core::system::cancel_children_key;
use aiki_core::{Client, ConflictPolicy, ErrorObject, Name, Payload, RetryStrategy, RunId, RunRecord, RunState};
use aiki_core::{ServerError, Transition};

use crate::server::{LEASE, Pass, ServerHarness, child_start, claim, create, create_as, request, status};

const SECOND: Duration = Duration::from_secs(1);

async fn record(client: &Client, run: RunId) -> RunRecord {
    client.server().get_run(run).await.unwrap()
}

fn known_as(input: &str, id: &str, conflict_policy: ConflictPolicy) -> ChildStart {
    ChildStart { reference: Some(Reference { id: id.into(), conflict_policy }), ..child_start(input) }
}

/// A run with one child, for whose end it waits.
async fn family(client: &Client) -> (RunId, RunId) {
    let run = create(client).await;
    let mut pass = claim(client, "w", run).await;
    let child = pass.report(vec![Pass::start_child(0, child_start("1"))]).await.children[0].unwrap();
    pass.report(vec![Pass::wait_for_child(0, 0, Some(child), None), Transition::Suspended]).await;
    (run, child)
}

async fn ready(client: &Client, request: ClaimReady) -> Vec<ClaimedRun> {
    client.server().claim_ready(request).await.unwrap()
}

/// Who cancels the children of cancelled runs, once it is left to whoever asks.
async fn cancellers(harness: &impl ServerHarness, client: &Client, pools: Vec<Name>) -> Vec<ClaimedRun> {
    harness.advance(SECOND).await;
    let workflows = vec![cancel_children_key()];
    ready(client, ClaimReady { worker: Name::new("s"), workflows, pools, limit: 10, lease: LEASE }).await
}

async fn children(client: &Client, run: RunId, statuses: &[RunStatus]) -> Vec<RunId> {
    let listed = client.server().list_child_runs(run, statuses).await.unwrap();
    listed.into_iter().map(|child| child.run).collect()
}

pub async fn a_child_is_there_when_its_report_is(harness: &impl ServerHarness) {
    let client = harness.client();
    let (run, child) = family(&client).await;
    let of = record(&client, child).await;
    assert_eq!((of.parent, of.state.status()), (Some(run), RunStatus::Queued));
    assert_eq!(of.input.as_ref().map(Payload::as_str), Some("1"));
    harness.recorder().announced(child, 1).await;
    let awaited = RunStatus::Completed;
    let parent = record(&client, run).await;
    assert_eq!(parent.state, RunState::AwaitingChild { child, awaited, timeout_at: None });
    assert_eq!((parent.children.len(), parent.children[0].run, &parent.children[0].ended), (1, Some(child), &None));
    assert_eq!(parent.children[0].input_hash, of.input_hash);
}

pub async fn a_repeated_report_starts_no_second_child(harness: &impl ServerHarness) {
    let client = harness.client();
    let run = create(&client).await;
    let mut pass = claim(&client, "w", run).await;
    let report = pass.next(vec![Pass::start_child(0, child_start("1")), Pass::start_child(1, child_start("1"))]);
    let receipt = client.server().report(report.clone()).await.unwrap();
    let [Some(first), Some(second)] = receipt.children[..] else { panic!("{receipt:?}") };
    assert!(first < second, "twins are two runs, in order");
    assert_eq!(client.server().report(report.clone()).await, Ok(receipt.clone()));
    pass.report(vec![Transition::Completed { output: None }]).await;
    assert_eq!(children(&client, run, &[]).await, [first, second]);
    assert!(client.server().report(report).await.is_err(), "it is older than the last one now");
    assert_eq!(children(&client, run, &[]).await, [first, second]);
}

pub async fn a_refused_report_starts_no_child(harness: &impl ServerHarness) {
    let client = harness.client();
    let run = create(&client).await;
    let mut pass = claim(&client, "w", run).await;
    let illegal = vec![Pass::start_child(0, child_start("1")), pass.complete(7, "1")];
    assert!(matches!(pass.try_report(illegal).await, Err(ServerError::IllegalTransition(_))));
    let out_of_turn = vec![Pass::start_child(1, child_start("1"))];
    assert!(matches!(pass.try_report(out_of_turn).await, Err(ServerError::IllegalTransition(_))));
    harness.advance(LEASE).await;
    let _next = claim(&client, "another", run).await;
    let late = pass.try_report(vec![Pass::start_child(0, child_start("1"))]).await;
    assert_eq!(late, Err(ServerError::ClaimLost(run)));
    assert!(children(&client, run, &[]).await.is_empty());
}

pub async fn a_parent_is_told_once_however_its_child_ends(harness: &impl ServerHarness) {
    let client = harness.client();
    let failed = Transition::Failed { cause: FailureCause::Own(ErrorObject::new("E", "no")) };
    let completed = Transition::Completed { output: Payload::from_json("7").ok() };
    for (end, ended) in
        [(Some(completed), RunStatus::Completed), (Some(failed), RunStatus::Failed), (None, RunStatus::Cancelled)]
    {
        let (run, child) = family(&client).await;
        if let Some(end) = end {
            let mut pass = claim(&client, "w", child).await;
            let report = pass.next(vec![end]);
            client.server().report(report.clone()).await.unwrap();
            client.server().report(report).await.unwrap();
        } else {
            client.server().cancel_run(child, None).await.unwrap();
        }
        assert!(client.server().cancel_run(child, None).await.is_err());
        let parent = record(&client, run).await;
        assert_eq!(parent.state, RunState::Queued { reason: QueuedReason::ChildWorkflow });
        assert_eq!(parent.children[0].ended, Some(record(&client, child).await.state));
        assert_eq!(parent.children[0].ended.as_ref().map(RunState::status), Some(ended));
        assert_eq!(parent.ordinals.signals, 1);
        harness.recorder().announced(run, 2).await;
    }
}

pub async fn a_child_that_ends_before_the_suspension_is_not_missed(harness: &impl ServerHarness) {
    let client = harness.client();
    let run = create(&client).await;
    let mut pass = claim(&client, "w", run).await;
    let child = pass.report(vec![Pass::start_child(0, child_start("1"))]).await.children[0].unwrap();
    claim(&client, "w", child).await.finish().await;
    assert_eq!(status(&client, run).await, RunStatus::Running, "the worker keeps the parent");
    let receipt = pass.report(vec![Pass::wait_for_child(0, 0, Some(child), None), Transition::Suspended]).await;
    assert_eq!((receipt.signals, status(&client, run).await), (1, RunStatus::Queued));
}

pub async fn a_child_outlives_a_parent_that_ended(harness: &impl ServerHarness) {
    let client = harness.client();
    let run = create(&client).await;
    let mut pass = claim(&client, "w", run).await;
    let end = vec![Pass::start_child(0, child_start("1")), Transition::Completed { output: None }];
    let child = pass.report(end).await.children[0].unwrap();
    let before = record(&client, run).await;
    claim(&client, "w", child).await.finish().await;
    assert_eq!(status(&client, child).await, RunStatus::Completed);
    assert_eq!(record(&client, run).await, before);
}

pub async fn a_child_is_found_under_its_reference_id(harness: &impl ServerHarness) {
    let client = harness.client();
    let policy = ConflictPolicy::Error;
    let make = async |id: &str| {
        let reference = Some(Reference { id: id.into(), conflict_policy: policy });
        create_as(&client, CreateRun { reference, ..request("1") }).await
    };
    let (running, ended) = (make("running").await, make("ended").await);
    claim(&client, "w", ended).await.finish().await;
    let run = create(&client).await;
    let mut pass = claim(&client, "w", run).await;
    let starts = vec![
        Pass::start_child(0, known_as("1", "running", policy)),
        Pass::start_child(1, known_as("1", "ended", policy)),
        Pass::start_child(2, known_as("2", "ended", policy)),
        Pass::start_child(3, known_as("2", "ended", ConflictPolicy::ReturnExisting)),
    ];
    let receipt = pass.report(starts).await;
    assert_eq!(receipt.children, [Some(running), Some(ended), None, Some(ended)]);
    assert_eq!(receipt.signals, 3, "the ends that are known already, and the refusal");
    let parent = record(&client, run).await;
    let ends: Vec<_> = parent.children.iter().map(|child| child.ended.as_ref().map(RunState::status)).collect();
    assert_eq!(ends, [None, Some(RunStatus::Completed), Some(RunStatus::Failed), Some(RunStatus::Completed)]);
    match &parent.children[2].ended {
        Some(RunState::Failed { cause: FailureCause::Own(error) }) => assert_eq!(error.name, "ReferenceConflict"),
        other => panic!("{other:?}"),
    }
    pass.report(vec![Pass::wait_for_child(0, 0, Some(running), None), Transition::Suspended]).await;
    assert_eq!(status(&client, run).await, RunStatus::Queued, "the worker has not seen those ends");
    let mut pass = claim(&client, "w", run).await;
    pass.report(vec![Transition::Suspended]).await;
    assert_eq!(status(&client, run).await, RunStatus::AwaitingChildWorkflow);
    claim(&client, "w", running).await.finish().await;
    assert_eq!(status(&client, run).await, RunStatus::Queued, "a run that was found tells as well");
    assert!(children(&client, run, &[]).await.is_empty(), "what was found is nobody's child");
}

pub async fn twins_under_one_reference_id_are_one_child(harness: &impl ServerHarness) {
    let client = harness.client();
    let run = create(&client).await;
    let mut pass = claim(&client, "w", run).await;
    let twin = || known_as("1", "twin", ConflictPolicy::Error);
    let starts = vec![
        Pass::start_child(0, twin()),
        Pass::start_child(1, twin()),
        Pass::start_child(2, known_as("2", "twin", ConflictPolicy::Error)),
        Pass::start_child(3, child_start("3")),
    ];
    let receipt = pass.report(starts).await;
    let [Some(first), second, None, Some(other)] = receipt.children[..] else { panic!("{receipt:?}") };
    assert_eq!(second, Some(first));
    assert_eq!(children(&client, run, &[]).await, [first, other]);
    claim(&client, "w", first).await.finish().await;
    let parent = record(&client, run).await;
    assert!(parent.children[0].ended.is_some() && parent.children[1].ended.is_some());
    // One of two own children has ended: the other is still to be cancelled.
    client.server().cancel_run(run, None).await.unwrap();
    assert_eq!(cancellers(harness, &client, Vec::new()).await.len(), 1);
}

pub async fn a_run_is_not_its_own_child(harness: &impl ServerHarness) {
    let client = harness.client();
    let reference = Some(Reference { id: "me".into(), conflict_policy: ConflictPolicy::Error });
    let run = create_as(&client, CreateRun { reference, ..request("1") }).await;
    let mut pass = claim(&client, "w", run).await;
    let receipt = pass.report(vec![Pass::start_child(0, known_as("1", "me", ConflictPolicy::Error))]).await;
    assert_eq!(receipt.children, [None], "it would wait for itself");
    assert!(matches!(record(&client, run).await.children[0].ended, Some(RunState::Failed { .. })));
    pass.finish().await;
    assert_eq!(status(&client, run).await, RunStatus::Completed);
}

pub async fn a_run_has_so_many_listeners_and_no_more(harness: &impl ServerHarness) {
    let client = harness.client();
    let run = create(&client).await;
    let mut pass = claim(&client, "w", run).await;
    let policy = ConflictPolicy::Error;
    let many = (0..MAX_LISTENERS as u32).map(|ordinal| Pass::start_child(ordinal, known_as("1", "popular", policy)));
    assert!(pass.report(many.collect()).await.children.iter().all(Option::is_some));
    let another = create(&client).await;
    let mut pass = claim(&client, "w", another).await;
    let receipt = pass.report(vec![Pass::start_child(0, known_as("1", "popular", policy))]).await;
    assert_eq!(receipt.children, [None]);
    match &record(&client, another).await.children[0].ended {
        Some(RunState::Failed { cause: FailureCause::Own(error) }) => assert_eq!(error.name, "TooManyListeners"),
        other => panic!("{other:?}"),
    }
}

pub async fn children_nest_to_a_limit(harness: &impl ServerHarness) {
    let client = harness.client();
    let mut run = create(&client).await;
    for _ in 0..MAX_DEPTH {
        let mut pass = claim(&client, "w", run).await;
        run = pass.report(vec![Pass::start_child(0, child_start("1"))]).await.children[0].unwrap();
    }
    let mut pass = claim(&client, "w", run).await;
    let receipt = pass.report(vec![Pass::start_child(0, child_start("1"))]).await;
    assert_eq!((receipt.children.as_slice(), receipt.signals), ([None].as_slice(), 1));
    match &record(&client, run).await.children[0].ended {
        Some(RunState::Failed { cause: FailureCause::Own(error) }) => {
            assert_eq!(error.name, "ChildDepthExceeded");
            assert!(error.message.contains("32"), "{}", error.message);
        }
        other => panic!("{other:?}"),
    }
    assert!(children(&client, run, &[]).await.is_empty());
}

pub async fn a_cancelled_parent_has_its_children_cancelled(harness: &impl ServerHarness) {
    let client = harness.client();
    let pool = Name::new("gpu");
    let options = Some(RunOptions { pool: Some(pool.clone()), retry: None });
    let run = create_as(&client, CreateRun { options, ..request("1") }).await;
    let mut pass = claim(&client, "w", run).await;
    let child = pass.report(vec![Pass::start_child(0, child_start("1"))]).await.children[0].unwrap();
    client.server().cancel_run(run, None).await.unwrap();
    assert_eq!(status(&client, child).await, RunStatus::Queued, "a worker does it");
    assert!(cancellers(harness, &client, Vec::new()).await.is_empty());
    let mut claimed = cancellers(harness, &client, vec![pool.clone()]).await;
    assert_eq!(claimed.len(), 1);
    let system = claimed.remove(0).record;
    assert_eq!(system.input.as_ref().map(|input| input.as_str().to_owned()), Some(format!("\"{run}\"")));
    assert_eq!((system.workflow.name.as_str(), system.workflow.version.as_str()), ("cancel-child-runs", "1.0.0"));
    let retry = RetryStrategy::exponential((1 << 53) - 1, SECOND).max_delay(SECOND * 30);
    let options = system.options.unwrap();
    assert_eq!((options.pool, options.retry), (Some(pool), Some(retry)));
    assert_eq!((system.parent, system.reference_id), (None, None));
    // What that run's handler does.
    let active: Vec<_> = RunStatus::ALL.iter().copied().filter(|status| !status.is_terminal()).collect();
    let listed = children(&client, run, &active).await;
    assert_eq!(client.server().cancel_runs(&listed).await.unwrap(), [child]);
    assert_eq!(record(&client, child).await.state, RunState::Cancelled { explanation: None });
}

pub async fn a_cancelled_parent_without_open_children_needs_no_canceller(harness: &impl ServerHarness) {
    let client = harness.client();
    let (run, child) = family(&client).await;
    claim(&client, "w", child).await.finish().await;
    client.server().cancel_run(run, None).await.unwrap();
    let (bulk, open) = family(&client).await;
    let (done, _open) = family(&client).await;
    claim(&client, "w", open).await.finish().await;
    assert_eq!(client.server().cancel_runs(&[bulk, done]).await.unwrap(), [bulk, done]);
    let inputs = cancellers(harness, &client, Vec::new()).await.into_iter();
    let inputs: Vec<_> = inputs.map(|claimed| claimed.record.input.unwrap().as_str().to_owned()).collect();
    assert_eq!(inputs, [format!("\"{done}\"")], "only where a child is open");
}

pub async fn children_are_listed_by_age_and_status(harness: &impl ServerHarness) {
    let client = harness.client();
    let run = create(&client).await;
    let mut pass = claim(&client, "w", run).await;
    let pooled = RunOptions { pool: Some(Name::new("gpu")), retry: None };
    let starts = vec![
        Pass::start_child(0, child_start("1")),
        Pass::start_child(1, ChildStart { options: pooled, ..child_start("2") }),
        Pass::start_child(2, child_start("3")),
    ];
    let ids: Vec<RunId> = pass.report(starts).await.children.into_iter().map(Option::unwrap).collect();
    claim(&client, "w", ids[2]).await.finish().await;
    assert_eq!(children(&client, run, &[]).await, ids);
    assert_eq!(children(&client, run, &[RunStatus::Queued, RunStatus::Running]).await, ids[..2]);
    assert_eq!(children(&client, run, &[RunStatus::Completed]).await, ids[2..]);
    assert!(children(&client, ids[0], &[]).await.is_empty());
    assert!(children(&client, RunId::from_bits(77 << 24), &[]).await.is_empty());
    let listed = client.server().list_child_runs(run, &[]).await.unwrap();
    let pools: Vec<_> = listed.iter().map(|child| child.pool.as_ref().map(Name::as_str)).collect();
    assert_eq!(pools, [None, Some("gpu"), None]);
    let other = harness.client_for(Name::new("other"));
    assert!(other.server().list_child_runs(run, &[]).await.unwrap().is_empty());
}

pub async fn a_child_belongs_to_its_parents_pool_unless_it_names_one(harness: &impl ServerHarness) {
    let client = harness.client();
    let pool = |name: &str| RunOptions { pool: Some(Name::new(name)), retry: None };
    let run = create_as(&client, CreateRun { options: Some(pool("gpu")), ..request("1") }).await;
    let mut pass = claim(&client, "w", run).await;
    let starts = vec![
        Pass::start_child(0, child_start("1")),
        Pass::start_child(1, ChildStart { options: pool("mail"), ..child_start("2") }),
    ];
    let ids = pass.report(starts).await.children;
    let mut pools = Vec::new();
    for id in ids {
        pools.push(record(&client, id.unwrap()).await.options.unwrap().pool.unwrap().to_string());
        harness.recorder().announced(id.unwrap(), 1).await;
    }
    assert_eq!(pools, ["gpu", "mail"]);
}

pub async fn a_child_ends_before_its_parents_deadline(harness: &impl ServerHarness) {
    let client = harness.client();
    let within = CreateRun { deadline: Some(Deadline::Within(SECOND * 60)), ..request("1") };
    let run = create_as(&client, within).await;
    let deadline = harness.now().after(SECOND * 60);
    let mut pass = claim(&client, "w", run).await;
    harness.advance(SECOND * 10).await;
    let limited = |secs| ChildStart { time_limit: Some(SECOND * secs), ..child_start("1") };
    let starts = vec![
        Pass::start_child(0, child_start("1")),
        Pass::start_child(1, limited(5)),
        Pass::start_child(2, limited(500)),
    ];
    let ids: Vec<RunId> = pass.report(starts).await.children.into_iter().map(Option::unwrap).collect();
    let mut deadlines = Vec::new();
    for id in &ids {
        deadlines.push(record(&client, *id).await.deadline.unwrap());
    }
    assert_eq!(deadlines, [deadline, harness.now().after(SECOND * 5), deadline]);
    pass.report(vec![Pass::wait_for_child(0, 1, Some(ids[1]), None), Transition::Suspended]).await;
    harness.advance(SECOND * 5).await;
    assert_eq!(status(&client, ids[1]).await, RunStatus::Failed);
    assert_eq!(status(&client, run).await, RunStatus::Queued, "a deadline is an end like others");
    harness.advance(SECOND * 45).await;
    for id in [run, ids[0], ids[2]] {
        assert_eq!(status(&client, id).await, RunStatus::Failed);
    }
}

pub async fn a_wait_for_a_child_times_out_at_its_millisecond(harness: &impl ServerHarness) {
    let client = harness.client();
    let run = create(&client).await;
    let mut pass = claim(&client, "w", run).await;
    let starts = vec![
        Pass::start_child(0, child_start("1")),
        // The worker does not know the child's id yet.
        Pass::wait_for_child(0, 0, None, Some(SECOND)),
        Transition::Suspended,
    ];
    let child = pass.report(starts).await.children[0].unwrap();
    let timeout_at = harness.now().after(SECOND);
    let state = RunState::AwaitingChild { child, awaited: RunStatus::Completed, timeout_at: Some(timeout_at) };
    harness.advance(Duration::from_millis(999)).await;
    assert_eq!(record(&client, run).await.state, state);
    harness.advance(Duration::from_millis(1)).await;
    let after = record(&client, run).await;
    assert_eq!(after.state, RunState::Queued { reason: QueuedReason::ChildWorkflowWaitTimeout });
    assert_eq!(after.waits[0].state, WaitState::TimedOut { timed_out_at: timeout_at });
    claim(&client, "w", child).await.finish().await;
    assert!(record(&client, run).await.children[0].ended.is_some(), "its end is on record all the same");
}

pub async fn a_parent_cancels_its_child(harness: &impl ServerHarness) {
    let client = harness.client();
    let run = create(&client).await;
    let mut pass = claim(&client, "w", run).await;
    let both = vec![
        Pass::start_child(0, child_start("1")),
        Pass::start_child(1, child_start("2")),
        Transition::ChildCancelled { ordinal: 1, run: None },
    ];
    let ids: Vec<RunId> = pass.report(both).await.children.into_iter().map(Option::unwrap).collect();
    assert_eq!(status(&client, ids[1]).await, RunStatus::Cancelled, "started and cancelled in one report");
    let mut working = claim(&client, "v", ids[0]).await;
    pass.report(vec![Transition::ChildCancelled { ordinal: 0, run: Some(ids[0]) }]).await;
    assert_eq!(working.try_report(vec![working.open(0)]).await, Err(ServerError::ClaimLost(ids[0])));
    let parent = record(&client, run).await;
    let ended = |child: &aiki_core::run::ChildRecord| child.ended.as_ref().map(RunState::status);
    assert!(parent.children.iter().all(|child| child.cancelled && ended(child) == Some(RunStatus::Cancelled)));
    // Again: it has ended, and that is fine.
    pass.report(vec![Transition::ChildCancelled { ordinal: 0, run: Some(ids[0]) }]).await;
    assert_eq!(record(&client, run).await.ordinals.signals, 2);
}
