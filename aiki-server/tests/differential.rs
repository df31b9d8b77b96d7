//! Memory and SQLite give the same answers to the same requests, whatever they are.
#![cfg(feature = "sqlite")]
#![allow(clippy::unwrap_used, reason = "for tests")]

mod support;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use aiki_conformance::server::{request, workflow};
use aiki_core::run::plan::CreateRun;
use aiki_core::run::{FailureCause, Reference, RunOptions};
use aiki_core::schedule::{ActivateSchedule, ScheduleFilter};
use aiki_core::server_client::{ClaimOutcome, ClaimReady, ClaimRef, ClaimRuns};
use aiki_core::{
    Client, ConflictPolicy, ErrorObject, Name, OverlapPolicy, Payload, Priority, Report, RunId, ScheduleRecord,
    ScheduleSpec, ScheduleStatus, Transition,
};
use aiki_runtime::SeededEntropy;
use aiki_server::Server;
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use support::ManualClock;

/// A request; numbers pick among the runs and claims that there are.
#[derive(Clone, Debug)]
enum Ask {
    Create { input: u8, reference: Option<u8>, existing: bool, delay: u16, priority: u8, pool: bool },
    Claim { worker: u8, runs: Vec<usize> },
    ClaimReady { worker: u8, pool: bool, limit: usize },
    Refresh { claims: Vec<usize> },
    Release { claims: Vec<usize> },
    Report { claim: usize, repeat: bool, steps: Vec<Step> },
    Cancel { run: usize },
    Activate { seconds: u8, policy: u8, cron: bool, input: u8, reference: Option<u8>, existing: bool },
    SetStatus { schedule: usize, status: u8 },
    Advance { millis: u32 },
    Restart,
}

#[derive(Clone, Debug)]
enum Step {
    Open,
    Complete(u8, u16),
    Fail(u8),
    Park(u8, u16),
    Restart(u8),
    Sleep(u16),
    Wake(u8),
    Suspend,
    Finish,
    Retry(u16),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Open),
        3 => (0..3u8, 0..3_000u16).prop_map(|(task, size)| Step::Complete(task, size)),
        1 => (0..3u8).prop_map(Step::Fail),
        2 => (0..3u8, any::<u16>()).prop_map(|(task, millis)| Step::Park(task, millis)),
        1 => (0..3u8).prop_map(Step::Restart),
        3 => any::<u16>().prop_map(Step::Sleep),
        1 => (0..2u8).prop_map(Step::Wake),
        3 => Just(Step::Suspend),
        1 => Just(Step::Finish),
        1 => any::<u16>().prop_map(Step::Retry),
    ]
}

fn ask() -> impl Strategy<Value = Ask> {
    let picks = || prop::collection::vec(0..20usize, 1..4);
    let create = (0..2u8, prop::option::of(0..3u8), any::<bool>(), 0..3_000u16, 0..3u8, any::<bool>());
    prop_oneof![
        4 => create.prop_map(|(input, reference, existing, delay, priority, pool)| {
            // Most are ready at once.
            Ask::Create { input, reference, existing, delay: delay.saturating_sub(2_000), priority, pool }
        }),
        4 => (0..3u8, picks()).prop_map(|(worker, runs)| Ask::Claim { worker, runs }),
        2 => (0..3u8, any::<bool>(), 0..4usize)
            .prop_map(|(worker, pool, limit)| Ask::ClaimReady { worker, pool, limit }),
        1 => picks().prop_map(|claims| Ask::Refresh { claims }),
        1 => picks().prop_map(|claims| Ask::Release { claims }),
        8 => (0..20usize, prop::bool::weighted(0.1), prop::collection::vec(step(), 1..4))
            .prop_map(|(claim, repeat, steps)| Ask::Report { claim, repeat, steps }),
        1 => (0..20usize).prop_map(|run| Ask::Cancel { run }),
        2 => (1..4u8, 0..4u8, any::<bool>(), 0..2u8, prop::option::of(0..3u8), any::<bool>()).prop_map(
            |(seconds, policy, cron, input, reference, existing)| {
                Ask::Activate { seconds, policy, cron, input, reference, existing }
            }
        ),
        1 => (0..8usize, 0..4u8).prop_map(|(schedule, status)| Ask::SetStatus { schedule, status }),
        3 => (1..40_000u32).prop_map(|millis| Ask::Advance { millis }),
        1 => Just(Ask::Restart),
    ]
}

/// One server with what its clients know. Both sides learn the same, or the test fails.
struct Side {
    server: Server,
    path: Option<PathBuf>,
    clock: Arc<ManualClock>,
    entropy: Arc<SeededEntropy>,
    runs: Vec<RunId>,
    claims: Vec<(ClaimRef, u64)>,
}

impl Side {
    async fn start(path: Option<PathBuf>, clock: &Arc<ManualClock>) -> Self {
        let entropy = Arc::new(SeededEntropy::new(7));
        let server = Self::serve(&path, clock, &entropy).await;
        Self { server, path, clock: Arc::clone(clock), entropy, runs: Vec::new(), claims: Vec::new() }
    }

    async fn serve(path: &Option<PathBuf>, clock: &Arc<ManualClock>, entropy: &Arc<SeededEntropy>) -> Server {
        let builder = Server::builder().clock(clock.clone()).entropy(entropy.clone());
        let builder = match path {
            Some(path) => builder.sqlite(path),
            None => builder.memory(),
        };
        builder.start().await.unwrap()
    }

    fn client(&self) -> Client {
        self.server.client()
    }

    fn pick_runs(&self, picks: &[usize]) -> Vec<RunId> {
        picks.iter().filter_map(|pick| self.runs.get(pick % self.runs.len().max(1))).copied().collect()
    }

    fn pick_claims(&self, picks: &[usize]) -> Vec<ClaimRef> {
        picks
            .iter()
            .filter_map(|pick| self.claims.get(pick % self.claims.len().max(1)))
            .map(|(claim, _)| *claim)
            .collect()
    }

    /// Asks, and tells the answer as text.
    async fn ask(&mut self, ask: &Ask) -> String {
        let client = self.client();
        let server = client.server();
        match ask {
            Ask::Create { input, reference, existing, delay, priority, pool } => {
                let conflict_policy = if *existing { ConflictPolicy::ReturnExisting } else { ConflictPolicy::Error };
                let asked = CreateRun {
                    reference: reference.map(|id| Reference { id: format!("r{id}"), conflict_policy }),
                    options: pool.then(|| RunOptions { retry: None, pool: Some(Name::new("gpu")) }),
                    priority: [Priority::High, Priority::Normal, Priority::Low][usize::from(*priority)],
                    delay: Duration::from_millis(u64::from(*delay)),
                    ..request(&input.to_string())
                };
                let answer = server.create_run(asked).await;
                self.runs.extend(answer.iter().filter(|created| !created.existed).map(|created| created.id));
                format!("{answer:?}")
            }
            Ask::Claim { worker, runs } => {
                let (worker, runs) = (Name::new(format!("w{worker}")), self.pick_runs(runs));
                let lease = Duration::from_secs(20);
                let answer = server.claim_runs(ClaimRuns { worker, runs, lease }).await.unwrap();
                for outcome in &answer {
                    if let ClaimOutcome::Granted(claimed) = outcome {
                        self.claims.push((ClaimRef { run: claimed.record.id, epoch: claimed.epoch }, 0));
                    }
                }
                format!("{answer:?}")
            }
            Ask::ClaimReady { worker, pool, limit } => {
                let pools = pool.then(|| Name::new("gpu")).into_iter().collect();
                let (worker, lease) = (Name::new(format!("w{worker}")), Duration::from_secs(20));
                let asked = ClaimReady { worker, workflows: vec![workflow()], pools, limit: *limit, lease };
                let answer = server.claim_ready(asked).await.unwrap();
                let claims = answer.iter().map(|claimed| ClaimRef { run: claimed.record.id, epoch: claimed.epoch });
                self.claims.extend(claims.map(|claim| (claim, 0)));
                format!("{answer:?}")
            }
            Ask::Refresh { claims } => {
                let claims = self.pick_claims(claims);
                format!("{:?}", server.refresh_runs(&Name::new("w0"), &claims, Duration::from_secs(20)).await)
            }
            Ask::Release { claims } => {
                let claims = self.pick_claims(claims);
                format!("{:?}", server.release_runs(&Name::new("w0"), &claims).await)
            }
            Ask::Report { claim, repeat, steps } => {
                let count = self.claims.len().max(1);
                // The latest claims are the most likely to stand.
                let Some((claim, seq)) = self.claims.iter_mut().rev().nth(claim % count) else { return "none".into() };
                let claim = *claim;
                *seq += u64::from(!*repeat || *seq == 0);
                let seq = *seq;
                let mut record = server.get_run(claim.run).await.unwrap();
                let mut transitions = Vec::new();
                for step in steps {
                    transitions.push(transition(claim.run, &mut record, step));
                }
                let report = Report { run: claim.run, epoch: claim.epoch, seq, signals: 0, transitions };
                format!("{:?}", server.report(report).await)
            }
            Ask::Cancel { run } => match self.pick_runs(&[*run]).first() {
                Some(run) => format!("{:?}", server.cancel_run(*run, Some("enough".into())).await),
                None => "none".into(),
            },
            Ask::Activate { seconds, policy, cron, input, reference, existing } => {
                let timing = match cron {
                    true => ScheduleSpec::cron(format!("*/{seconds}0 * * * * *")).timezone("Europe/Berlin"),
                    false => ScheduleSpec::every(Duration::from_secs(7 * u64::from(*seconds))),
                };
                let policies = [OverlapPolicy::Allow, OverlapPolicy::Skip, OverlapPolicy::CancelPrevious];
                let spec = policies.get(usize::from(*policy)).map_or(timing.clone(), |policy| timing.overlap(*policy));
                let conflict_policy = if *existing { ConflictPolicy::ReturnExisting } else { ConflictPolicy::Error };
                let CreateRun { input, input_hash, .. } = request(&input.to_string());
                let asked = ActivateSchedule {
                    reference: reference.map(|id| Reference { id: format!("s{id}"), conflict_policy }),
                    ..ActivateSchedule::new(workflow(), spec, input, input_hash)
                };
                format!("{:?}", server.activate_schedule(asked).await)
            }
            Ask::SetStatus { schedule, status } => {
                let listed = self.schedules().await;
                let Some(schedule) = listed.get(schedule % listed.len().max(1)) else { return "none".into() };
                // Most are brought back.
                let statuses = [ScheduleStatus::Paused, ScheduleStatus::Inactive, ScheduleStatus::Active];
                let status = statuses[usize::from(*status).min(2)];
                format!("{:?}", server.set_schedule_status(schedule.id, status).await)
            }
            Ask::Advance { .. } => "the clock was stepped".into(),
            Ask::Restart => {
                if self.path.is_some() {
                    self.server.close().await;
                    self.server = Self::serve(&self.path, &self.clock, &self.entropy).await;
                } else {
                    self.server.take_back_orphans().await.unwrap();
                }
                "restarted".into()
            }
        }
    }

    async fn schedules(&self) -> Vec<ScheduleRecord> {
        let client = self.client();
        client.server().list_schedules(ScheduleFilter::default(), 100, 0).await.unwrap().schedules
    }

    async fn everything(&self) -> Vec<String> {
        let client = self.client();
        let mut all = Vec::new();
        for schedule in self.schedules().await {
            all.push(format!("{schedule:?}"));
            if let Some(run) = schedule.last_run {
                all.push(format!("{:?}", client.server().get_run(run).await));
            }
        }
        for run in &self.runs {
            all.push(format!("{:?}", client.server().get_run(*run).await));
            all.push(format!("{:?}", client.server().list_transitions(*run).await));
        }
        all
    }
}

fn transition(run: RunId, record: &mut aiki_core::RunRecord, step: &Step) -> Transition {
    let error = || ErrorObject::new("E", "no");
    let millis = |millis: u16| Duration::from_millis(u64::from(millis));
    match *step {
        Step::Open => {
            let id = run.task(record.tasks.len() as u32);
            if let Some(task) = record.tasks.first().cloned() {
                record.tasks.push(task);
            }
            let hash = request("1").input_hash;
            Transition::TaskOpened { id, name: "t".into(), input_hash: hash, input: None, retry: None }
        }
        Step::Complete(task, size) => {
            let output = Payload::from_json(format!("\"{}\"", "x".repeat(usize::from(size)))).ok();
            Transition::TaskCompleted { id: run.task(u32::from(task)), attempts: 1, output }
        }
        Step::Fail(task) => Transition::TaskFailed { id: run.task(u32::from(task)), attempts: 1, error: error() },
        Step::Park(task, after) => Transition::TaskParked {
            id: run.task(u32::from(task)),
            attempts: 1,
            error: error(),
            retry_in: millis(after),
        },
        Step::Restart(task) => Transition::TaskRestarted { id: run.task(u32::from(task)), attempts: 2 },
        Step::Sleep(duration) => Transition::SleepOpened {
            ordinal: record.sleeps.len() as u32,
            name: "nap".into(),
            duration: millis(duration),
        },
        Step::Wake(ordinal) => Transition::SleepCompleted { ordinal: u32::from(ordinal) },
        Step::Suspend => Transition::Suspended,
        Step::Finish => Transition::Completed { output: Payload::from_json("1").ok() },
        Step::Retry(after) => Transition::RetryScheduled { cause: FailureCause::Own(error()), retry_in: millis(after) },
    }
}

async fn compare(asks: Vec<Ask>) -> Result<(), TestCaseError> {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::default());
    let mut memory = Side::start(None, &clock).await;
    let mut sqlite = Side::start(Some(folder.path().join("aiki.db")), &clock).await;
    for ask in &asks {
        if let Ask::Advance { millis } = ask {
            clock.step(Duration::from_millis(u64::from(*millis)));
        }
        let (expected, found) = (memory.ask(ask).await, sqlite.ask(ask).await);
        prop_assert_eq!(expected, found, "{:?}", ask);
        // What is due at once by now is done before the next request, not at some time.
        memory.server.run_due_timers().await.unwrap();
        sqlite.server.run_due_timers().await.unwrap();
    }
    let (expected, found) = (memory.everything().await, sqlite.everything().await);
    prop_assert_eq!(expected, found);
    sqlite.server.close().await;
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 64,
        max_shrink_iters: 500,
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct("tests/differential.regressions"))),
        ..ProptestConfig::default()
    })]

    #[test]
    fn both_stores_give_the_same_answers(asks in prop::collection::vec(ask(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(compare(asks))?;
    }
}
