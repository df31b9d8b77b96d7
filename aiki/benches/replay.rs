//! What replay costs per recorded step: the total must grow linearly with the length of the record.

#![allow(clippy::expect_used, reason = "a benchmark that cannot run stops")]

use std::hint::black_box;
use std::sync::Arc;
use std::task::{Context, Waker};

use aiki::prelude::*;
use aiki::replay::{Close, MachineConfig, Pass, PassStep};
use aiki::run::{Ordinals, RunOptions, TaskRecord, TaskState};
use aiki::server_client::ClaimedRun;
use aiki::{ReportReceipt, RunRecord, RunState, SystemClock, Timestamp};
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

/// A run whose record holds `steps` completed tasks.
fn recorded(workflow: &WorkflowKey, steps: u32) -> ClaimedRun {
    let id = RunId::from_bits(1 << 80);
    let hash = |text: &str| aiki::hash::input_hash(Some(text)).expect("a number is JSON");
    let tasks = (0..steps)
        .map(|n| TaskRecord {
            id: id.task(n),
            name: "step".into(),
            input_hash: hash(&n.to_string()),
            input: None,
            retry: None,
            state: TaskState::Completed { attempts: 1, output: Payload::from_json(n.to_string()).ok() },
            run_attempt: 1,
            settled: Some(u64::from(n) + 1),
            checkpoint: None,
        })
        .collect();
    let record = RunRecord {
        id,
        namespace: "default".into(),
        workflow: workflow.clone(),
        created_at: Timestamp::EPOCH,
        started_at: None,
        revision: 2,
        state_transition_id: id.transition(2),
        input: Payload::from_json(steps.to_string()).ok(),
        input_hash: hash(&steps.to_string()),
        reference_id: None,
        schedule: None,
        options: Some(RunOptions::default()),
        priority: Priority::default(),
        attempts: 1,
        state: RunState::Running,
        tasks,
        sleeps: Vec::new(),
        times: Vec::new(),
        events: Vec::new(),
        waits: Vec::new(),
        children: Vec::new(),
        parent: None,
        deadline: None,
        trace: None,
        seen: Some(u64::from(steps)),
        ordinals: Ordinals { tasks: steps, ..Ordinals::default() },
        history_len: 2 * steps,
    };
    ClaimedRun {
        record,
        epoch: 1,
        lease: std::time::Duration::from_secs(60),
        history_limit: u32::MAX,
        granted_at: None,
    }
}

fn replay(claim: ClaimedRun, workflow: &aiki::RegisteredWorkflow) -> Close {
    let mut pass = Pass::new(claim, workflow, Arc::new(SystemClock), MachineConfig::default());
    let mut cx = Context::from_waker(Waker::noop());
    loop {
        match pass.poll(&mut cx) {
            PassStep::Again => {}
            PassStep::Report(report) => {
                black_box(report);
                pass.accepted(&ReportReceipt::default());
            }
            PassStep::Close(close) => return close,
            PassStep::Wait { .. } => panic!("a recorded run has nothing to wait for"),
        }
    }
}

fn replay_cost(criterion: &mut Criterion) {
    let step = Task::new("step", |_: TaskContext, n: u32| async move { Ok::<_, Failure>(n) });
    let workflow = Workflow::new("steps").version("1.0.0", move |run: Run, steps: u32| {
        let step = step.clone();
        async move {
            for n in 0..steps {
                step.start(&run, n).await?;
            }
            Ok::<_, Failure>(())
        }
    });
    let registered = workflow.register();
    let mut group = criterion.benchmark_group("replay");
    for steps in [10, 100, 1_000, 10_000] {
        group.throughput(Throughput::Elements(u64::from(steps)));
        group.bench_with_input(BenchmarkId::from_parameter(steps), &steps, |bencher, &steps| {
            let claim = recorded(workflow.key(), steps);
            bencher.iter_batched(|| claim.clone(), |claim| replay(claim, &registered), BatchSize::LargeInput);
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).warm_up_time(std::time::Duration::from_millis(500));
    targets = replay_cost
}
criterion_main!(benches);
