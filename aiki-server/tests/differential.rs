//! All stores give the same answers to the same requests, whatever they are.
#![cfg(all(feature = "http", feature = "sqlite", feature = "postgres"))]
#![allow(clippy::unwrap_used, reason = "for tests")]

mod caller;
mod support;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use aiki_conformance::server::{Pass, child_start, event, request, workflow};
use aiki_core::listing::{
    RunFilter, RunOrder, RunPageRequest, RunSummary, SortOrder, StatusCounts, VersionsQuery, WorkflowFilter,
    WorkflowSort, WorkflowsQuery,
};
use aiki_core::name::{Source, WorkflowKey};
use aiki_core::report::ChildStart;
use aiki_core::run::export::RunExport;
use aiki_core::run::head::ConcurrencyKey;
use aiki_core::run::plan::{CreateRun, Deadline, RunCommand, TaskTarget};
use aiki_core::run::{FailureCause, Reference, RunOptions, RunStatus, WaitOn, WaitRecord, WaitState};
use aiki_core::schedule::{ActivateSchedule, ScheduleFilter};
use aiki_core::server_client::{ClaimOutcome, ClaimReady, ClaimRef, ClaimRuns, SetTaskResult};
use aiki_core::{
    Client, Clock, ConflictPolicy, ErrorObject, Name, OverlapPolicy, Payload, Priority, Report, RunId, RunRecord,
    ScheduleRecord, ScheduleSpec, ScheduleStatus, Transition,
};
use aiki_runtime::SeededEntropy;
use aiki_server::Server;
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use serde_json::json;
use support::{ManualClock, SELDOM};

/// A request; numbers pick among the runs and claims that there are.
#[derive(Clone, Debug)]
enum Ask {
    Create(Start),
    Claim {
        worker: u8,
        runs: Vec<usize>,
    },
    ClaimReady {
        worker: u8,
        pool: bool,
        limit: usize,
    },
    /// As a worker of the plain contract, whose runs stay queued while it holds them.
    ClaimPlainly {
        pool: bool,
        limit: usize,
    },
    Refresh {
        claims: Vec<usize>,
    },
    Release {
        claims: Vec<usize>,
    },
    Report {
        claim: usize,
        repeat: bool,
        behind: bool,
        steps: Vec<Step>,
    },
    Cancel {
        run: usize,
    },
    CancelMany {
        runs: Vec<usize>,
    },
    Send {
        run: usize,
        name: u8,
        reference: Option<u8>,
    },
    Command {
        run: usize,
        command: u8,
    },
    SetTask {
        run: usize,
        task: u8,
        fail: bool,
    },
    Activate {
        seconds: u8,
        policy: u8,
        cron: bool,
        input: u8,
        reference: Option<u8>,
        existing: bool,
    },
    SetStatus {
        schedule: usize,
        status: u8,
    },
    List(Box<Look>),
    Workflows {
        sort: u8,
        descending: bool,
        limit: usize,
        offset: usize,
    },
    Advance {
        millis: u32,
    },
    Restart,
}

/// A question for runs; numbers pick among what there is.
#[derive(Clone, Debug)]
struct Look {
    id: Option<usize>,
    statuses: Vec<u8>,
    workflow: Option<u8>,
    reference: Option<u8>,
    schedule: Option<usize>,
    parent: Option<usize>,
    /// Seconds since the beginning.
    created: (Option<u8>, Option<u8>),
    oldest_first: bool,
    /// A run, and whether to go on beside it.
    after: Option<(usize, bool)>,
    offset: usize,
    limit: usize,
}

/// A start by a client.
#[derive(Clone, Debug)]
struct Start {
    input: u8,
    reference: Option<u8>,
    existing: bool,
    delay: u16,
    priority: u8,
    pool: bool,
    /// Of another version.
    second: bool,
    deadline: Option<u16>,
    /// The limit that it shares.
    shared: Option<u32>,
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
    WaitEvent(u8, Option<u16>),
    WaitChild(u8, Option<u16>),
    TakeEvent(u8, u8),
    TakeEnd(u8),
    DropWait(u8),
    Child { input: u8, reference: Option<u8>, limit: Option<u16> },
    CancelChild(u8),
    Progress(u8),
    Continue,
    Suspend,
    Finish,
    Retry(u16),
}

fn step() -> impl Strategy<Value = Step> {
    let timeout = || prop::option::of(any::<u16>());
    prop_oneof![
        4 => Just(Step::Open),
        3 => (0..3u8, 0..3_000u16).prop_map(|(task, size)| Step::Complete(task, size)),
        1 => (0..3u8).prop_map(Step::Fail),
        2 => (0..3u8, any::<u16>()).prop_map(|(task, millis)| Step::Park(task, millis)),
        1 => (0..3u8).prop_map(Step::Restart),
        3 => any::<u16>().prop_map(Step::Sleep),
        1 => (0..2u8).prop_map(Step::Wake),
        2 => (0..2u8, timeout()).prop_map(|(name, timeout)| Step::WaitEvent(name, timeout)),
        2 => (0..2u8, timeout()).prop_map(|(child, timeout)| Step::WaitChild(child, timeout)),
        1 => (0..2u8, 0..2u8).prop_map(|(wait, event)| Step::TakeEvent(wait, event)),
        1 => (0..2u8).prop_map(Step::TakeEnd),
        1 => (0..2u8).prop_map(Step::DropWait),
        2 => (0..2u8, prop::option::of(0..3u8), timeout())
            .prop_map(|(input, reference, limit)| Step::Child { input, reference, limit }),
        1 => (0..2u8).prop_map(Step::CancelChild),
        1 => (0..3u8).prop_map(Step::Progress),
        1 => Just(Step::Continue),
        4 => Just(Step::Suspend),
        1 => Just(Step::Finish),
        1 => any::<u16>().prop_map(Step::Retry),
    ]
}

fn look() -> impl Strategy<Value = Look> {
    let rarely = || prop::option::weighted(0.1, 0..20usize);
    let what = (rarely(), prop::collection::vec(0..12u8, 0..3), prop::option::weighted(0.4, 0..5u8));
    let whose = (prop::option::weighted(0.2, 0..3u8), prop::option::weighted(0.1, 0..8usize), rarely());
    let created = (prop::option::weighted(0.2, 0..120u8), prop::option::weighted(0.2, 0..120u8));
    let page = (any::<bool>(), prop::option::weighted(0.3, (0..20usize, any::<bool>())), 0..3usize, 1..6usize);
    (what, whose, created, page).prop_map(|(what, whose, created, page)| {
        let ((id, statuses, workflow), (reference, schedule, parent)) = (what, whose);
        let (oldest_first, after, offset, limit) = page;
        Look { id, statuses, workflow, reference, schedule, parent, created, oldest_first, after, offset, limit }
    })
}

fn ask() -> impl Strategy<Value = Ask> {
    let picks = || prop::collection::vec(0..20usize, 1..4);
    let shared = prop::option::weighted(0.4, 1..3u32);
    let limits = (prop::option::weighted(0.2, any::<u16>()), shared);
    let whose = (any::<bool>(), prop::bool::weighted(0.2));
    let create = (0..2u8, prop::option::of(0..3u8), any::<bool>(), 0..3_000u16, 0..3u8, whose, limits);
    prop_oneof![
        4 => create.prop_map(|(input, reference, existing, delay, priority, (pool, second), (deadline, shared))| {
            // Most are ready at once.
            let delay = delay.saturating_sub(2_000);
            Ask::Create(Start { input, reference, existing, delay, priority, pool, second, deadline, shared })
        }),
        8 => (0..3u8, picks()).prop_map(|(worker, runs)| Ask::Claim { worker, runs }),
        2 => (0..3u8, any::<bool>(), 0..4usize)
            .prop_map(|(worker, pool, limit)| Ask::ClaimReady { worker, pool, limit }),
        1 => (any::<bool>(), 1..4usize).prop_map(|(pool, limit)| Ask::ClaimPlainly { pool, limit }),
        1 => picks().prop_map(|claims| Ask::Refresh { claims }),
        1 => picks().prop_map(|claims| Ask::Release { claims }),
        20 => (0..4usize, prop::bool::weighted(0.1), prop::bool::weighted(0.2), prop::collection::vec(step(), 1..5))
            .prop_map(|(claim, repeat, behind, steps)| Ask::Report { claim, repeat, behind, steps }),
        1 => (0..20usize).prop_map(|run| Ask::Cancel { run }),
        1 => picks().prop_map(|runs| Ask::CancelMany { runs }),
        3 => (0..20usize, 0..2u8, prop::option::of(0..3u8))
            .prop_map(|(run, name, reference)| Ask::Send { run, name, reference }),
        3 => (0..20usize, 0..4u8).prop_map(|(run, command)| Ask::Command { run, command }),
        1 => (0..20usize, 0..4u8, any::<bool>()).prop_map(|(run, task, fail)| Ask::SetTask { run, task, fail }),
        2 => (1..4u8, 0..4u8, any::<bool>(), 0..2u8, prop::option::of(0..3u8), any::<bool>()).prop_map(
            |(seconds, policy, cron, input, reference, existing)| {
                Ask::Activate { seconds, policy, cron, input, reference, existing }
            }
        ),
        1 => (0..8usize, 0..4u8).prop_map(|(schedule, status)| Ask::SetStatus { schedule, status }),
        6 => look().prop_map(|look| Ask::List(Box::new(look))),
        1 => (0..3u8, any::<bool>(), 1..3usize, 0..2usize)
            .prop_map(|(sort, descending, limit, offset)| Ask::Workflows { sort, descending, limit, offset }),
        3 => (1..40_000u32).prop_map(|millis| Ask::Advance { millis }),
        1 => Just(Ask::Restart),
    ]
}

/// Runs are forgotten so long after their end.
const KEEP: Duration = Duration::from_secs(50);
/// Plain claims lapse so long after they were made.
const PLAIN_LEASE: Duration = Duration::from_secs(20);

/// Where a server keeps its runs.
enum Place {
    Memory,
    Sqlite(PathBuf),
    Postgres(test_postgres::Schema),
}

/// One server with what its clients know. Both sides learn the same, or the test fails.
struct Side {
    server: Server,
    place: Place,
    clock: Arc<ManualClock>,
    entropy: Arc<SeededEntropy>,
    runs: Vec<RunId>,
    claims: Vec<(ClaimRef, u64)>,
}

impl Side {
    async fn start(place: Place, clock: &Arc<ManualClock>) -> Self {
        let entropy = Arc::new(SeededEntropy::new(7));
        let server = Self::serve(&place, clock, &entropy).await;
        Self { server, place, clock: Arc::clone(clock), entropy, runs: Vec::new(), claims: Vec::new() }
    }

    async fn serve(place: &Place, clock: &Arc<ManualClock>, entropy: &Arc<SeededEntropy>) -> Server {
        let builder =
            Server::builder().clock(clock.clone()).entropy(entropy.clone()).retention(KEEP).plain_lease(PLAIN_LEASE);
        let builder = match place {
            Place::Memory => builder.memory(),
            Place::Sqlite(path) => builder.sqlite(path),
            Place::Postgres(schema) => builder.postgres(&schema.url).postgres_schema(&schema.name).look_every(SELDOM),
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
            Ask::Create(Start { input, reference, existing, delay, priority, pool, second, deadline, shared }) => {
                let conflict_policy = if *existing { ConflictPolicy::ReturnExisting } else { ConflictPolicy::Error };
                let asked = CreateRun {
                    reference: reference.map(|id| Reference { id: format!("r{id}"), conflict_policy }),
                    options: pool.then(|| RunOptions { retry: None, pool: Some(Name::new("gpu")) }),
                    priority: [Priority::High, Priority::Normal, Priority::Low][usize::from(*priority)],
                    delay: Duration::from_millis(u64::from(*delay)),
                    deadline: deadline.map(|limit| Deadline::Within(Duration::from_millis(u64::from(limit)))),
                    concurrency: shared.map(|limit| ConcurrencyKey { key: "tenant".into(), limit }),
                    workflow: if *second { WorkflowKey::user("orders", "2.0.0") } else { workflow() },
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
            Ask::ClaimPlainly { pool, limit } => {
                let WorkflowKey { name, version, .. } = workflow();
                let workflows = json!([{ "source": "user", "name": name.as_str(), "versionId": version.as_str() }]);
                let mut asked = json!({ "workflows": workflows, "limit": limit });
                if *pool {
                    asked["pools"] = json!(["gpu"]);
                }
                caller::ok(&self.server.router(), "workflowRun/claimReadyV1", asked).await.to_string()
            }
            Ask::Refresh { claims } => {
                let claims = self.pick_claims(claims);
                format!("{:?}", server.refresh_runs(&Name::new("w0"), &claims, Duration::from_secs(20)).await)
            }
            Ask::Release { claims } => {
                let claims = self.pick_claims(claims);
                format!("{:?}", server.release_runs(&Name::new("w0"), &claims).await)
            }
            Ask::Report { claim, repeat, behind, steps } => {
                let count = self.claims.len().max(1);
                // The latest claims are the most likely to stand.
                let Some((claim, seq)) = self.claims.iter_mut().rev().nth(claim % count) else { return "none".into() };
                let claim = *claim;
                *seq += u64::from(!*repeat || *seq == 0);
                let seq = *seq;
                // It may be forgotten by now.
                let Ok(mut record) = server.get_run(claim.run).await else { return "gone".into() };
                let signals = record.ordinals.signals.saturating_sub(u32::from(*behind));
                let mut transitions = Vec::new();
                for step in steps {
                    transitions.extend(transition(claim.run, &mut record, step));
                    // A report that goes on behind its end is refused whole: one in ten is enough.
                    if !*repeat && transitions.last().is_some_and(Transition::ends_claim) {
                        break;
                    }
                }
                let report = Report { run: claim.run, epoch: claim.epoch, seq, signals, transitions };
                let answer = server.report(report).await;
                for child in answer.iter().flat_map(|receipt| receipt.children.iter().flatten()) {
                    if !self.runs.contains(child) {
                        self.runs.push(*child);
                    }
                }
                format!("{answer:?}")
            }
            Ask::CancelMany { runs } => format!("{:?}", server.cancel_runs(&self.pick_runs(runs)).await),
            Ask::Send { run, name, reference } => {
                let Some(run) = self.pick_runs(&[*run]).pop() else { return "none".into() };
                let reference = reference.map(|id| format!("e{id}"));
                let sent = server.send_event(event(run, &format!("event-{name}"), reference.as_deref())).await;
                format!("{sent:?} {:?}", server.get_signals(run, 1).await)
            }
            Ask::Command { run, command } => {
                let Some(run) = self.pick_runs(&[*run]).pop() else { return "none".into() };
                let commands = [RunCommand::Pause, RunCommand::Resume, RunCommand::WakeUp, RunCommand::Requeue];
                format!("{:?}", server.command_run(run, commands[usize::from(*command)]).await)
            }
            Ask::SetTask { run, task, fail } => {
                let Some(run) = self.pick_runs(&[*run]).pop() else { return "none".into() };
                let CreateRun { input, input_hash, .. } = request("1");
                let target = match *task {
                    3 => TaskTarget::New { name: "t".into(), input, input_hash },
                    task => TaskTarget::Existing(run.task(u32::from(task))),
                };
                let result = if *fail { Err(ErrorObject::new("E", "no")) } else { Ok(Payload::from_json("7").ok()) };
                format!("{:?}", server.set_task_result(SetTaskResult { run, target, result }).await)
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
            Ask::List(look) => {
                let (filter, page) = self.question(look).await;
                let listed = server.list_runs(filter.clone(), page).await.unwrap();
                // The pages are the list of those that fit, whatever the way to them.
                let whole = RunPageRequest { order: page.order, limit: 1_000, ..RunPageRequest::default() };
                let mut all = server.list_runs(RunFilter::default(), whole).await.unwrap().runs;
                all.retain(|run| fits(&filter, run));
                assert_eq!(server.count_runs(filter.clone()).await, Ok(all.len() as u64), "{filter:?}");
                all.retain(|run| match (page.after, page.order) {
                    (None, _) => true,
                    (Some(after), RunOrder::OldestFirst) => run.id > after,
                    (Some(after), RunOrder::NewestFirst) => run.id < after,
                });
                let expected: Vec<_> = all.into_iter().skip(page.offset).take(page.limit).collect();
                assert_eq!(listed.runs, expected, "{filter:?} {page:?}");
                format!("{listed:?}")
            }
            Ask::Workflows { sort, descending, limit, offset } => {
                let order = if *descending { SortOrder::Desc } else { SortOrder::Asc };
                let field = [WorkflowSort::Name, WorkflowSort::RunCount, WorkflowSort::LastRunAt][usize::from(*sort)];
                let (limit, offset) = (*limit, *offset);
                let query = WorkflowsQuery { sort: (field, order), limit, offset, ..WorkflowsQuery::default() };
                let versions = VersionsQuery { limit, offset, ..VersionsQuery::of("orders") };
                let workflows = server.list_workflows(query).await;
                let stats = server.run_stats(None).await.unwrap();
                let mut counted = StatusCounts::default();
                for run in server.list_runs(RunFilter::default(), ALL).await.unwrap().runs {
                    counted.add(run.status, 1);
                }
                assert_eq!(stats, counted, "what is counted is there");
                format!("{workflows:?} {:?} {stats:?}", server.list_workflow_versions(versions).await)
            }
            Ask::Advance { .. } => "the clock was stepped".into(),
            Ask::Restart => {
                if !matches!(self.place, Place::Memory) {
                    self.server.close().await;
                    self.server = Self::serve(&self.place, &self.clock, &self.entropy).await;
                }
                // A store that others may use as well does it only when told.
                if !matches!(self.place, Place::Sqlite(_)) {
                    self.server.take_back_orphans().await.unwrap();
                }
                "restarted".into()
            }
        }
    }

    async fn question(&self, look: &Look) -> (RunFilter, RunPageRequest) {
        let pick = |at: Option<usize>| at.and_then(|at| self.pick_runs(&[at]).pop());
        let schedules = self.schedules().await;
        let since = |seconds: Option<u8>| {
            seconds.map(|seconds| ManualClock::default().now().after(Duration::from_secs(seconds.into())))
        };
        let workflow = look.workflow.map(|which| match which {
            0 => WorkflowFilter::named("orders"),
            1 => workflow().into(),
            2 => WorkflowKey::user("orders", "2.0.0").into(),
            3 => WorkflowFilter::named("nobody"),
            _ => WorkflowFilter { source: Source::System, ..WorkflowFilter::named("cancel-child-runs") },
        });
        let filter = RunFilter {
            id: pick(look.id),
            statuses: look.statuses.iter().map(|at| RunStatus::ALL[usize::from(*at)]).collect(),
            workflow,
            reference_id: look.reference.map(|id| format!("r{id}")),
            schedule: look.schedule.and_then(|at| Some(schedules.get(at % schedules.len().max(1))?.id)),
            parent: pick(look.parent),
            created_from: since(look.created.0),
            created_until: since(look.created.1),
        };
        let order = if look.oldest_first { RunOrder::OldestFirst } else { RunOrder::NewestFirst };
        let beside = |(at, beside)| Some(RunId::from_bits(pick(Some(at))?.to_bits() + u128::from(beside)));
        let after = look.after.and_then(beside);
        (filter, RunPageRequest { order, after, offset: look.offset, limit: look.limit })
    }

    async fn schedules(&self) -> Vec<ScheduleRecord> {
        let client = self.client();
        client.server().list_schedules(ScheduleFilter::default(), 100, 0).await.unwrap().schedules
    }

    async fn everything(&self) -> Vec<String> {
        let client = self.client();
        let mut all = Vec::new();
        let mut runs = client.list_runs(RunFilter::default()).page_size(7);
        while let Some(run) = runs.next().await.unwrap() {
            let export = client.export(run.id).await.unwrap();
            let read = RunExport::from_json(&export.to_json().unwrap()).unwrap();
            assert_eq!(read.record(), client.server().get_run(run.id).await.unwrap());
            all.push(format!("{run:?}"));
        }
        for schedule in self.schedules().await {
            all.push(format!("{schedule:?}"));
            if let Some(run) = schedule.last_run {
                all.push(format!("{:?}", client.server().get_run(run).await));
            }
        }
        for run in &self.runs {
            all.push(format!("{:?}", client.server().get_run(*run).await));
            all.push(format!("{:?}", client.server().list_transitions(*run).await));
            all.push(format!("{:?}", client.server().list_child_runs(*run, &[]).await));
            all.push(format!("{:?}", client.server().get_signals(*run, 0).await));
        }
        all
    }
}

const ALL: RunPageRequest = RunPageRequest { order: RunOrder::NewestFirst, after: None, offset: 0, limit: 1_000 };

/// What a filter says, once more.
fn fits(filter: &RunFilter, run: &RunSummary) -> bool {
    let (created, key) = (run.id.created_at(), &run.workflow);
    filter.id.is_none_or(|id| id == run.id)
        && (filter.statuses.is_empty() || filter.statuses.contains(&run.status))
        && filter.workflow.as_ref().is_none_or(|workflow| workflow.matches(key))
        && filter.reference_id.iter().all(|id| run.reference_id.as_ref() == Some(id))
        && filter.schedule.iter().all(|schedule| run.schedule == Some(*schedule))
        && filter.parent.iter().all(|parent| run.parent == Some(*parent))
        && filter.created_from.is_none_or(|from| from <= created)
        && filter.created_until.is_none_or(|until| created < until)
}

/// The next of its kind.
fn next(count: &mut u32) -> u32 {
    *count += 1;
    *count - 1
}

/// The wait for an event, or for a child, that a step is about; once in a record it is spoken for.
fn take_wait(record: &mut RunRecord, n: u8, event: bool) -> Option<u32> {
    let lasts = |wait: &WaitRecord| {
        matches!(wait.state, WaitState::Waiting { .. }) && matches!(wait.on, WaitOn::Event(_)) == event
    };
    let lasting: Vec<usize> = (0..record.waits.len()).filter(|at| lasts(&record.waits[*at])).collect();
    let at = *lasting.iter().rev().nth(usize::from(n) % lasting.len().max(1))?;
    Some(record.waits.remove(at).ordinal)
}

/// What a worker could mean by a step, if anything; numbers count back from the newest task, sleep, wait
/// or child.
fn transition(run: RunId, record: &mut RunRecord, step: &Step) -> Option<Transition> {
    let error = || ErrorObject::new("E", "no");
    let millis = |millis: u16| Duration::from_millis(u64::from(millis));
    let back = |count: u32, n: u8| count.saturating_sub(1 + u32::from(n));
    let so_far = record.ordinals;
    let task = |n| run.task(back(so_far.tasks, n));
    Some(match *step {
        Step::Open => {
            let id = run.task(next(&mut record.ordinals.tasks));
            let hash = request("1").input_hash;
            Transition::TaskOpened { id, name: "t".into(), input_hash: hash, input: None, retry: None }
        }
        Step::Complete(n, size) => {
            let output = Payload::from_json(format!("\"{}\"", "x".repeat(usize::from(size)))).ok();
            Transition::TaskCompleted { id: task(n), attempts: 1, output }
        }
        Step::Fail(n) => Transition::TaskFailed { id: task(n), attempts: 1, error: error() },
        Step::Park(n, after) => {
            Transition::TaskParked { id: task(n), attempts: 1, error: error(), retry_in: millis(after) }
        }
        Step::Restart(n) => Transition::TaskRestarted { id: task(n), attempts: 2 },
        Step::Progress(n) => Transition::TaskProgressed { id: task(n), checkpoint: Payload::from_json("3").unwrap() },
        Step::Sleep(duration) => Transition::SleepOpened {
            ordinal: next(&mut record.ordinals.sleeps),
            name: "nap".into(),
            duration: millis(duration),
        },
        Step::Wake(n) => Transition::SleepCompleted { ordinal: back(so_far.sleeps, n) },
        Step::WaitEvent(name, timeout) => {
            Pass::wait_for(next(&mut record.ordinals.waits), &format!("event-{name}"), timeout.map(millis))
        }
        Step::WaitChild(n, timeout) => {
            let child = back(so_far.children, n);
            let known = record.children.iter().find(|known| known.ordinal == child).and_then(|child| child.run);
            Pass::wait_for_child(next(&mut record.ordinals.waits), child, known, timeout.map(millis))
        }
        Step::TakeEvent(n, event) => {
            Transition::WaitCompleted { ordinal: take_wait(record, n, true)?, event: Some(u32::from(event)) }
        }
        Step::TakeEnd(n) => Transition::WaitCompleted { ordinal: take_wait(record, n, false)?, event: None },
        Step::DropWait(n) => Transition::WaitDropped { ordinal: take_wait(record, n, n == 0)? },
        Step::Child { input, reference, limit } => {
            let reference = reference.map(|id| Reference { id: format!("r{id}"), conflict_policy: Default::default() });
            let start = child_start(&input.to_string());
            let start = ChildStart { reference, time_limit: limit.map(millis), ..start };
            Pass::start_child(next(&mut record.ordinals.children), start)
        }
        Step::CancelChild(n) => {
            let ordinal = back(so_far.children, n);
            let known = record.children.iter().find(|known| known.ordinal == ordinal).and_then(|child| child.run);
            Transition::ChildCancelled { ordinal, run: known }
        }
        Step::Continue => {
            let (input, events) = (Payload::from_json("9").ok(), record.events.clone());
            Transition::ContinuedAsNew { input, events }
        }
        Step::Suspend => Transition::Suspended,
        Step::Finish => Transition::Completed { output: Payload::from_json("1").ok() },
        Step::Retry(after) => Transition::RetryScheduled { cause: FailureCause::Own(error()), retry_in: millis(after) },
    })
}

async fn compare(asks: Vec<Ask>, place: Place) -> Result<(), TestCaseError> {
    let clock = Arc::new(ManualClock::default());
    let mut memory = Side::start(Place::Memory, &clock).await;
    let mut stored = Side::start(place, &clock).await;
    for ask in &asks {
        if let Ask::Advance { millis } = ask {
            clock.step(Duration::from_millis(u64::from(*millis)));
        }
        if let Ask::Restart = ask {
            // Ids that a refused request had drawn are forgotten with the process: go on in a new millisecond.
            clock.step(Duration::from_millis(1));
        }
        if let Ask::Advance { .. } | Ask::Restart = ask {
            // What is to be forgotten by now goes on both sides before anything else.
            memory.server.run_due_timers().await.unwrap();
            stored.server.run_due_timers().await.unwrap();
        }
        let (expected, found) = (memory.ask(ask).await, stored.ask(ask).await);
        prop_assert_eq!(expected, found, "{:?}", ask);
        // What is due at once by now is done before the next request, not at some time.
        memory.server.run_due_timers().await.unwrap();
        stored.server.run_due_timers().await.unwrap();
    }
    let (expected, found) = (memory.everything().await, stored.everything().await);
    prop_assert_eq!(expected, found);
    stored.server.close().await;
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
    fn sqlite_gives_the_same_answers_as_memory(asks in prop::collection::vec(ask(), 1..80)) {
        let folder = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(compare(asks, Place::Sqlite(folder.path().join("aiki.db"))))?;
    }
}

proptest! {
    // A schema for each case: fewer of them.
    #![proptest_config(ProptestConfig {
        cases: 24,
        max_shrink_iters: 200,
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct("tests/differential.regressions"))),
        ..ProptestConfig::default()
    })]

    #[test]
    fn postgres_gives_the_same_answers_as_memory(asks in prop::collection::vec(ask(), 1..80)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let schema = test_postgres::Schema::fresh().await;
            compare(asks, Place::Postgres(schema)).await
        })?;
    }
}

/// A start that shares a limit with the others of its kind.
fn shared(limit: u32) -> Ask {
    let (input, priority, shared) = (1, 1, Some(limit));
    let (reference, deadline) = (None, None);
    let (existing, pool, second, delay) = (false, false, false, 0);
    Ask::Create(Start { input, reference, existing, delay, priority, pool, second, deadline, shared })
}

#[tokio::test]
async fn a_run_that_a_plain_worker_holds_takes_its_place_in_the_limit_whatever_the_store() {
    let (folder, schema) = (tempfile::tempdir().unwrap(), test_postgres::Schema::fresh().await);
    for place in [Place::Memory, Place::Sqlite(folder.path().join("aiki.db")), Place::Postgres(schema)] {
        let mut side = Side::start(place, &Arc::default()).await;
        for _ in 0..3 {
            side.ask(&shared(1)).await;
        }
        let told = side.ask(&Ask::ClaimPlainly { pool: false, limit: 1 }).await;
        assert!(told.contains(&side.runs[0].to_string()), "{told}");
        for _ in 0..2 {
            let claimed = side.ask(&Ask::ClaimReady { worker: 0, pool: false, limit: 3 }).await;
            assert_eq!(claimed, "[]", "the only place is taken");
        }
        side.server.close().await;
    }
}
