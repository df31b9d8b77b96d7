//! What callers do to runs.

use std::time::Duration;

use aiki_core::hash::input_hash;
use aiki_core::run::plan::{CreateRun, POISON_LIMIT, RunCommand, TaskTarget};
use aiki_core::run::{FailureCause, QueuedReason, RunStatus, SleepState, TaskState, TaskStatus};
use aiki_core::server_client::{ClaimOutcome, ClaimStatus, SetTaskResult};
use aiki_core::{Client, ErrorObject, Name, Payload, RunId, RunState, ServerError, TaskId, Transition};

use crate::server::{
    LEASE, Pass, ServerHarness, child_start, claim, create, create_as, request, send, status, try_claim,
};

const SECOND: Duration = Duration::from_secs(1);

async fn command(client: &Client, run: RunId, command: RunCommand) -> Result<(), ServerError> {
    client.server().command_run(run, command).await
}

pub async fn a_running_run_is_cancelled_and_its_worker_loses_the_claim(harness: &impl ServerHarness) {
    let client = harness.client();
    let run = create(&client).await;
    let mut pass = claim(&client, "w", run).await;
    pass.report(vec![pass.open(0)]).await;
    client.server().cancel_run(run, Some("sold out".into())).await.unwrap();
    let refreshed = client.server().refresh_runs(&Name::new("w"), &[pass.claim()], LEASE).await.unwrap();
    assert_eq!(refreshed, [ClaimStatus::Lost]);
    assert_eq!(pass.try_report(vec![pass.complete(0, "1")]).await, Err(ServerError::ClaimLost(run)));
    let record = client.server().get_run(run).await.unwrap();
    assert_eq!(record.state, RunState::Cancelled { explanation: Some("sold out".into()) });
    assert_eq!(record.tasks[0].state.status(), TaskStatus::Discarded);
}

pub async fn a_sleeping_run_is_cancelled(harness: &impl ServerHarness) {
    let client = harness.client();
    let run = create(&client).await;
    let mut pass = claim(&client, "w", run).await;
    pass.report(vec![Pass::sleep(0, Duration::from_secs(60)), Transition::Suspended]).await;
    client.server().cancel_run(run, None).await.unwrap();
    harness.advance(Duration::from_secs(61)).await;
    let record = client.server().get_run(run).await.unwrap();
    assert_eq!(record.state, RunState::Cancelled { explanation: None });
    assert!(matches!(record.sleeps[0].state, SleepState::Cancelled { .. }), "{:?}", record.sleeps);
    assert_eq!(try_claim(&client, "w", run).await, ClaimOutcome::Done);
}

pub async fn an_ended_run_cannot_be_cancelled(harness: &impl ServerHarness) {
    let client = harness.client();
    let run = create(&client).await;
    claim(&client, "w", run).await.finish().await;
    let before = client.server().get_run(run).await.unwrap();
    let refused = client.server().cancel_run(run, None).await;
    assert!(matches!(refused, Err(ServerError::IllegalTransition(_))), "{refused:?}");
    assert_eq!(client.server().get_run(run).await.unwrap(), before);
}

pub async fn many_runs_are_cancelled_at_once(harness: &impl ServerHarness) {
    let client = harness.client();
    let (queued, ended, paused, running) =
        (create(&client).await, create(&client).await, create(&client).await, create(&client).await);
    claim(&client, "w", ended).await.finish().await;
    command(&client, paused, RunCommand::Pause).await.unwrap();
    let mut pass = claim(&client, "w", running).await;
    let foreign = create(&harness.client_for(Name::new("other"))).await;
    let nobody = RunId::from_bits(77 << 24);
    let all = [running, queued, nobody, ended, queued, foreign, paused];
    assert_eq!(client.server().cancel_runs(&all).await.unwrap(), [running, queued, paused]);
    assert_eq!(pass.try_report(vec![pass.open(0)]).await, Err(ServerError::ClaimLost(running)));
    assert_eq!(client.server().get_run(paused).await.unwrap().state, RunState::Cancelled { explanation: None });
    assert_eq!(status(&client, ended).await, RunStatus::Completed);
    assert!(client.server().cancel_runs(&all).await.unwrap().is_empty(), "nothing is cancelled twice");
    assert!(client.server().cancel_runs(&[]).await.unwrap().is_empty());
    let too_many = vec![nobody; 1_001];
    assert!(matches!(client.server().cancel_runs(&too_many).await, Err(ServerError::Invalid(_))));
}

/// A run that nobody can finish: every worker that takes it is lost.
async fn stalled(harness: &impl ServerHarness, client: &Client) -> RunId {
    let run = create(client).await;
    for _ in 0..POISON_LIMIT {
        claim(client, "w", run).await;
        harness.advance(LEASE).await;
    }
    assert_eq!(try_claim(client, "w", run).await, ClaimOutcome::Done);
    assert_eq!(status(client, run).await, RunStatus::Stalled);
    run
}

/// A run in this status.
async fn standing(harness: &impl ServerHarness, client: &Client, wanted: RunStatus) -> RunId {
    let cause = || FailureCause::Own(ErrorObject::new("E", "no"));
    let transitions = match wanted {
        RunStatus::Scheduled => {
            let run = create_as(client, CreateRun { delay: SECOND * 3_600, ..request("1") }).await;
            assert_eq!(status(client, run).await, wanted);
            return run;
        }
        RunStatus::Stalled => return stalled(harness, client).await,
        RunStatus::Queued => return create(client).await,
        RunStatus::Paused => {
            let run = create(client).await;
            command(client, run, RunCommand::Pause).await.unwrap();
            return run;
        }
        RunStatus::Cancelled => {
            let run = create(client).await;
            client.server().cancel_run(run, None).await.unwrap();
            return run;
        }
        RunStatus::Running => vec![],
        RunStatus::Sleeping => vec![Pass::sleep(0, SECOND * 3_600), Transition::Suspended],
        RunStatus::AwaitingEvent => vec![Pass::wait_for(0, "paid", None), Transition::Suspended],
        RunStatus::AwaitingRetry => {
            vec![Transition::RetryScheduled { cause: cause(), retry_in: SECOND * 3_600 }]
        }
        RunStatus::AwaitingChildWorkflow => {
            vec![Pass::start_child(0, child_start("1")), Pass::wait_for_child(0, 0, None, None), Transition::Suspended]
        }
        RunStatus::Completed => vec![Transition::Completed { output: None }],
        RunStatus::Failed => vec![Transition::Failed { cause: cause() }],
    };
    let run = create(client).await;
    claim(client, "w", run).await.report(transitions).await;
    assert_eq!(status(client, run).await, wanted);
    run
}

pub async fn every_command_has_its_places(harness: &impl ServerHarness) {
    let client = harness.client();
    let table = [
        (RunCommand::Pause, RunStatus::Paused, &[RunStatus::Scheduled, RunStatus::Queued, RunStatus::Running][..]),
        (RunCommand::Resume, RunStatus::Queued, &[RunStatus::Paused][..]),
        (RunCommand::WakeUp, RunStatus::Queued, &[RunStatus::Sleeping][..]),
        (RunCommand::Requeue, RunStatus::Queued, &[RunStatus::Stalled][..]),
    ];
    for from in RunStatus::ALL {
        for (asked, to, places) in table {
            let run = standing(harness, &client, *from).await;
            let before = client.server().get_run(run).await.unwrap();
            let answer = command(&client, run, asked).await;
            let after = client.server().get_run(run).await.unwrap();
            if places.contains(from) {
                assert_eq!((answer, after.state.status()), (Ok(()), to), "{asked:?} of a run that is {from}");
                assert!(after.revision > before.revision);
                let again = command(&client, run, asked).await;
                assert!(matches!(again, Err(ServerError::IllegalTransition(_))), "{asked:?} twice: {again:?}");
            } else {
                assert!(matches!(answer, Err(ServerError::IllegalTransition(_))), "{asked:?} of {from}: {answer:?}");
                assert_eq!(after, before, "{asked:?} of a run that is {from}");
            }
        }
    }
    let nobody = RunId::from_bits(77 << 24);
    assert_eq!(command(&client, nobody, RunCommand::Pause).await, Err(ServerError::RunNotFound(nobody)));
}

pub async fn every_run_that_has_not_ended_can_be_cancelled(harness: &impl ServerHarness) {
    let client = harness.client();
    for from in RunStatus::ALL.iter().filter(|status| !status.is_terminal()) {
        let run = standing(harness, &client, *from).await;
        client.server().cancel_run(run, None).await.unwrap();
        harness.advance(SECOND * 3_601).await;
        assert_eq!(status(&client, run).await, RunStatus::Cancelled, "it was {from}");
        assert_eq!(try_claim(&client, "w", run).await, ClaimOutcome::Done);
    }
}

pub async fn a_paused_run_keeps_what_comes_and_goes_on_from_there(harness: &impl ServerHarness) {
    let client = harness.client();
    let run = create(&client).await;
    let mut pass = claim(&client, "w", run).await;
    pass.report(vec![Pass::sleep(0, SECOND), Pass::wait_for(0, "paid", Some(SECOND * 2))]).await;
    command(&client, run, RunCommand::Pause).await.unwrap();
    assert_eq!(pass.try_report(vec![Transition::Suspended]).await, Err(ServerError::ClaimLost(run)));
    assert_eq!(try_claim(&client, "w", run).await, ClaimOutcome::Done);
    send(&client, run, "paid").await;
    harness.advance(SECOND).await;
    assert_eq!(status(&client, run).await, RunStatus::Paused, "time does not end a pause");
    command(&client, run, RunCommand::Resume).await.unwrap();
    harness.recorder().announced(run, 2).await;
    let record = client.server().get_run(run).await.unwrap();
    assert_eq!(record.state, RunState::Queued { reason: QueuedReason::Resumption });
    assert!(matches!(record.sleeps[0].state, SleepState::Completed { .. }), "it was over during the pause");
    assert_eq!(record.events.len(), 1);
    let mut pass = claim(&client, "w", run).await;
    pass.report(vec![Transition::WaitCompleted { ordinal: 0, event: Some(0) }]).await;
    pass.finish().await;
}

pub async fn pauses_do_not_stall_a_run(harness: &impl ServerHarness) {
    let client = harness.client();
    let run = create(&client).await;
    for _ in 0..=POISON_LIMIT {
        claim(&client, "w", run).await;
        command(&client, run, RunCommand::Pause).await.unwrap();
        command(&client, run, RunCommand::Resume).await.unwrap();
    }
    claim(&client, "w", run).await.finish().await;
}

pub async fn a_run_that_is_woken_up_ends_its_earliest_sleep(harness: &impl ServerHarness) {
    let client = harness.client();
    let run = create(&client).await;
    let mut pass = claim(&client, "w", run).await;
    pass.report(vec![Pass::sleep(0, SECOND * 90), Pass::sleep(1, SECOND * 60), Transition::Suspended]).await;
    command(&client, run, RunCommand::WakeUp).await.unwrap();
    harness.recorder().announced(run, 2).await;
    let record = client.server().get_run(run).await.unwrap();
    assert_eq!(record.state, RunState::Queued { reason: QueuedReason::WakeupEarly });
    assert!(matches!(record.sleeps[0].state, SleepState::Sleeping { .. }));
    assert!(matches!(record.sleeps[1].state, SleepState::Cancelled { .. }));
    assert_eq!(record.sleeps[1].settled, Some(1));
    let mut pass = claim(&client, "w", run).await;
    pass.report(vec![Pass::wait_for(0, "paid", Some(SECOND * 5)), Transition::Suspended]).await;
    assert_eq!(status(&client, run).await, RunStatus::AwaitingEvent);
    // The other sleep is behind an event by now; it is a sleep all the same.
    command(&client, run, RunCommand::WakeUp).await.unwrap();
    assert_eq!(status(&client, run).await, RunStatus::Queued);
    let refused = command(&client, run, RunCommand::WakeUp).await;
    assert!(matches!(refused, Err(ServerError::IllegalTransition(_))), "{refused:?}");
}

pub async fn a_run_that_takes_its_workers_down_stalls_and_others_go_on(harness: &impl ServerHarness) {
    let client = harness.client();
    let run = stalled(harness, &client).await;
    let announced = harness.recorder().count(run);
    harness.advance(SECOND * 3_600).await;
    assert_eq!((status(&client, run).await, harness.recorder().count(run)), (RunStatus::Stalled, announced));
    let other = create(&client).await;
    claim(&client, "w", other).await.finish().await;
    command(&client, run, RunCommand::Requeue).await.unwrap();
    harness.recorder().announced(run, announced + 1).await;
    let record = client.server().get_run(run).await.unwrap();
    assert_eq!(record.state, RunState::Queued { reason: QueuedReason::Redelivery });
    // It has all its deliveries again, and progress gives them back.
    for _ in 1..POISON_LIMIT {
        claim(&client, "w", run).await;
        harness.advance(LEASE).await;
    }
    let mut pass = claim(&client, "w", run).await;
    pass.report(vec![pass.open(0)]).await;
    harness.advance(LEASE).await;
    claim(&client, "w", run).await.finish().await;
}

fn result(run: RunId, task: TaskId, output: &str) -> SetTaskResult {
    SetTaskResult { run, target: TaskTarget::Existing(task), result: Ok(Payload::from_json(output).ok()) }
}

pub async fn an_operator_gives_a_task_its_result(harness: &impl ServerHarness) {
    let client = harness.client();
    let run = create(&client).await;
    let mut pass = claim(&client, "w", run).await;
    pass.report(vec![pass.open(0), pass.open(1)]).await;
    client.server().set_task_result(result(run, run.task(1), "7")).await.unwrap();
    assert_eq!(pass.try_report(vec![pass.complete(0, "1")]).await, Err(ServerError::ClaimLost(run)));
    let record = client.server().get_run(run).await.unwrap();
    assert_eq!(record.state, RunState::Queued { reason: QueuedReason::Recovery }, "the next worker goes on with it");
    let output = Payload::from_json("7").ok();
    assert_eq!(record.tasks[1].state, TaskState::Completed { attempts: 2, output });
    assert_eq!(record.tasks[1].settled, Some(1));
    let error = ErrorObject::new("E", "given up");
    let target = TaskTarget::Existing(run.task(0));
    client.server().set_task_result(SetTaskResult { run, target, result: Err(error.clone()) }).await.unwrap();
    let record = client.server().get_run(run).await.unwrap();
    assert_eq!(record.tasks[0].state, TaskState::Failed { attempts: 2, error });
    claim(&client, "w", run).await.finish().await;
}

pub async fn an_operator_gives_the_result_of_a_task_to_come(harness: &impl ServerHarness) {
    let client = harness.client();
    let run = create(&client).await;
    let (input, input_hash) = (Payload::from_json("1").ok(), input_hash(Some("1")).unwrap());
    let new = |name: &str, result| {
        let target = TaskTarget::New { name: name.into(), input: input.clone(), input_hash: input_hash.clone() };
        SetTaskResult { run, target, result }
    };
    client.server().set_task_result(new("ship", Ok(None))).await.unwrap();
    let refused = client.server().set_task_result(new("", Ok(None))).await;
    assert!(matches!(refused, Err(ServerError::Invalid(_))), "{refused:?}");
    assert_eq!(status(&client, run).await, RunStatus::Queued);
    let mut pass = claim(&client, "w", run).await;
    let seeded = &pass.claimed.record.tasks[0];
    assert_eq!((seeded.name.as_str(), &seeded.input_hash), ("ship", &input_hash));
    assert_eq!(seeded.state, TaskState::Completed { attempts: 1, output: None });
    pass.report(vec![pass.open(1), pass.complete(1, "1")]).await;
    let listed = client.server().list_transitions(run).await.unwrap();
    let of_seeded = listed.iter().filter(|transition| {
        matches!(transition.change, aiki_core::run::record::TransitionChange::Task(task, _) if task == run.task(0))
    });
    assert_eq!(of_seeded.count(), 2, "running, and then its result");
    pass.finish().await;
}

pub async fn results_that_nobody_waits_for_are_refused(harness: &impl ServerHarness) {
    let client = harness.client();
    let run = create(&client).await;
    let mut pass = claim(&client, "w", run).await;
    let error = ErrorObject::new("E", "no");
    let parked = Transition::TaskParked { id: run.task(1), attempts: 1, error: error.clone(), retry_in: SECOND };
    let failed = Transition::TaskFailed { id: run.task(2), attempts: 1, error };
    let transitions = vec![pass.open(0), pass.open(1), pass.open(2), pass.complete(0, "1"), parked, failed];
    pass.report(transitions).await;
    let before = client.server().get_run(run).await.unwrap();
    for task in 0..3 {
        let refused = client.server().set_task_result(result(run, run.task(task), "7")).await;
        assert!(matches!(refused, Err(ServerError::IllegalTransition(_))), "{refused:?}");
    }
    let missing = run.task(3);
    let refused = client.server().set_task_result(result(run, missing, "7")).await;
    assert_eq!(refused, Err(ServerError::TaskNotFound(missing)));
    let other = create(&client).await;
    let refused = client.server().set_task_result(result(other, run.task(0), "7")).await;
    assert_eq!(refused, Err(ServerError::TaskNotFound(run.task(0))), "it is the task of another run");
    let large = format!("\"{}\"", "x".repeat(harness.payload_limit()));
    let refused = client.server().set_task_result(result(run, run.task(0), &large)).await;
    assert!(matches!(refused, Err(ServerError::Invalid(_))), "{refused:?}");
    assert_eq!(client.server().get_run(run).await.unwrap(), before);
    pass.report(vec![pass.open(3)]).await;
    pass.finish().await;
    let refused = client.server().set_task_result(result(run, run.task(3), "7")).await;
    assert_eq!(refused, Err(ServerError::RunEnded { run, status: RunStatus::Completed }));
}
