//! Looking at runs, workflows and how they stand.

use std::collections::BTreeSet;
use std::time::Duration;

use aiki_core::listing::{
    RunFilter, RunOrder, RunPageRequest, SortOrder, StatusCounts, VersionSort, VersionsQuery, WorkflowFilter,
    WorkflowSort, WorkflowsQuery,
};
use aiki_core::name::{Source, WorkflowKey};
use aiki_core::run::export::RunExport;
use aiki_core::run::plan::CreateRun;
use aiki_core::run::{Reference, RunOptions, RunStatus};
use aiki_core::schedule::ActivateSchedule;
use aiki_core::{Client, Name, OverlapPolicy, Priority, RunId, ScheduleId, ScheduleSpec, ServerError, Transition};

use crate::server::{Pass, ServerHarness, child_start, claim, create, create_as, request, workflow};

const ALL: RunPageRequest = RunPageRequest { order: RunOrder::NewestFirst, after: None, offset: 0, limit: 1_000 };

fn any() -> RunFilter {
    RunFilter::default()
}

fn with(statuses: &[RunStatus]) -> RunFilter {
    RunFilter { statuses: statuses.to_vec(), ..any() }
}

/// What is listed, the newest first; the count has to agree.
async fn list(client: &Client, filter: RunFilter) -> Vec<RunId> {
    let page = client.server().list_runs(filter.clone(), ALL).await.unwrap();
    assert_eq!(page.next, None);
    assert_eq!(client.server().count_runs(filter).await, Ok(page.runs.len() as u64));
    page.runs.iter().map(|run| run.id).collect()
}

async fn several(client: &Client, count: usize) -> Vec<RunId> {
    let mut runs = Vec::new();
    for _ in 0..count {
        runs.push(create(client).await);
    }
    runs
}

/// Reads a whole list in pages.
async fn read(client: &Client, filter: RunFilter, order: RunOrder, limit: usize) -> Vec<RunId> {
    let mut list = client.list_runs(filter).order(order).page_size(limit);
    let mut runs = Vec::new();
    while let Some(page) = list.next_page().await.unwrap() {
        assert!((1..=limit).contains(&page.runs.len()));
        runs.extend(page.runs.iter().map(|run| run.id));
    }
    runs
}

fn referring(id: &str, workflow: WorkflowKey) -> CreateRun {
    let reference = Some(Reference { id: id.into(), conflict_policy: Default::default() });
    CreateRun { reference, workflow, ..request("1") }
}

pub async fn runs_are_listed_in_pages_of_any_size_in_either_order(harness: &impl ServerHarness) {
    let client = harness.client();
    let mut runs = several(&client, 7).await;
    for limit in [1, 2, 3, 6, 7, 8] {
        assert_eq!(read(&client, any(), RunOrder::OldestFirst, limit).await, runs, "pages of {limit}");
    }
    runs.reverse();
    for limit in [1, 2, 3, 6, 7, 8] {
        assert_eq!(read(&client, any(), RunOrder::NewestFirst, limit).await, runs, "pages of {limit}");
        let queued = read(&client, with(&[RunStatus::Queued]), RunOrder::NewestFirst, limit).await;
        assert_eq!(queued, runs, "pages of {limit}");
    }
    for offset in 0..9 {
        let page = client.server().list_runs(any(), RunPageRequest { offset, limit: 2, ..ALL }).await.unwrap();
        let found: Vec<_> = page.runs.iter().map(|run| run.id).collect();
        assert_eq!(found, runs.iter().skip(offset).take(2).copied().collect::<Vec<_>>());
        assert_eq!(page.next, found.last().copied().filter(|_| offset + 2 < 7), "offset {offset}");
    }
    // Run by run it is the same list.
    let mut list = client.list_runs(any()).page_size(3);
    let mut found = Vec::new();
    while let Some(run) = list.next().await.unwrap() {
        found.push(run.id);
    }
    assert_eq!((found, list.count().await), (runs, Ok(7)));
}

pub async fn a_list_that_is_read_on_neither_repeats_nor_hides_runs(harness: &impl ServerHarness) {
    let client = harness.client();
    let runs = several(&client, 6).await;
    let mut newest = client.list_runs(any()).page_size(2);
    let mut oldest = client.list_runs(any()).order(RunOrder::OldestFirst).page_size(2);
    let (mut down, mut up) = (Vec::new(), Vec::new());
    let mut later = Vec::new();
    loop {
        let (one, other) = (newest.next_page().await.unwrap(), oldest.next_page().await.unwrap());
        if one.is_none() && other.is_none() {
            break;
        }
        down.extend(one.into_iter().flat_map(|page| page.runs).map(|run| run.id));
        up.extend(other.into_iter().flat_map(|page| page.runs).map(|run| run.id));
        // Runs come, and move on, between two pages.
        if later.len() < 3 {
            later.push(create(&client).await);
            client.server().cancel_run(runs[later.len()], None).await.unwrap();
        }
    }
    let mut expected = runs.clone();
    expected.reverse();
    assert_eq!(down, expected, "downwards, what came later is not seen");
    expected.reverse();
    expected.extend(later);
    assert_eq!(up, expected, "upwards, it comes at the end");
}

pub async fn a_list_goes_on_behind_a_run_that_is_not_there(harness: &impl ServerHarness) {
    let client = harness.client();
    let runs = several(&client, 3).await;
    let beside = RunId::from_bits(runs[1].to_bits() + 1);
    let page = |order, after| {
        let (client, request) = (client.clone(), RunPageRequest { order, after: Some(after), ..ALL });
        async move {
            let page = client.server().list_runs(any(), request).await.unwrap();
            page.runs.iter().map(|run| run.id).collect::<Vec<_>>()
        }
    };
    assert_eq!(page(RunOrder::OldestFirst, beside).await, [runs[2]]);
    assert_eq!(page(RunOrder::NewestFirst, beside).await, [runs[1], runs[0]]);
    assert_eq!(page(RunOrder::NewestFirst, RunId::from_bits(0)).await, []);
    assert_eq!(page(RunOrder::OldestFirst, RunId::from_bits(u128::MAX)).await, []);
}

pub async fn an_empty_list_is_a_page_without_runs(harness: &impl ServerHarness) {
    let client = harness.client();
    assert_eq!(list(&client, any()).await, []);
    assert!(client.list_runs(any()).next_page().await.unwrap().is_none());
    assert!(client.list_runs(any()).next().await.unwrap().is_none());
    create(&client).await;
    assert_eq!(list(&client, with(&[RunStatus::Failed])).await, []);
    let nobody = RunFilter { workflow: Some(WorkflowFilter::named("nobody")), ..any() };
    assert_eq!(list(&client, nobody.clone()).await, []);
    assert_eq!(list(&client, RunFilter { statuses: vec![RunStatus::Queued], ..nobody }).await, []);
    let page = client.server().list_runs(any(), RunPageRequest { offset: 1, ..ALL }).await.unwrap();
    assert_eq!((page.runs, page.next), (vec![], None));
}

pub async fn a_page_has_1_to_1000_entries(harness: &impl ServerHarness) {
    let client = harness.client();
    let run = create(&client).await;
    let server = client.server();
    for limit in [1, 1_000] {
        let page = server.list_runs(any(), RunPageRequest { limit, ..ALL }).await.unwrap();
        assert_eq!(page.runs[0].id, run);
        assert_eq!(server.list_workflows(WorkflowsQuery { limit, ..Default::default() }).await.unwrap().total, 1);
        let versions = VersionsQuery { limit, ..VersionsQuery::of("orders") };
        assert_eq!(server.list_workflow_versions(versions).await.unwrap().total, 1);
    }
    let refused = |error: ServerError| {
        assert!(matches!(&error, ServerError::Invalid(text) if text.contains("1 to 1000")), "{error}");
    };
    for limit in [0, 1_001, usize::MAX] {
        refused(server.list_runs(any(), RunPageRequest { limit, ..ALL }).await.unwrap_err());
        refused(server.list_workflows(WorkflowsQuery { limit, ..Default::default() }).await.unwrap_err());
        let versions = VersionsQuery { limit, ..VersionsQuery::of("orders") };
        refused(server.list_workflow_versions(versions).await.unwrap_err());
    }
}

pub async fn a_run_is_listed_where_it_stands(harness: &impl ServerHarness) {
    let client = harness.client();
    let (queued, running, ended) = (create(&client).await, create(&client).await, create(&client).await);
    let delayed = create_as(&client, CreateRun { delay: Duration::from_secs(60), ..request("1") }).await;
    let pass = claim(&client, "w", running).await;
    let mut other = claim(&client, "w", ended).await;
    other.report(vec![other.open(0)]).await;
    other.report(vec![other.complete(0, "1"), Transition::Completed { output: None }]).await;
    assert_eq!(list(&client, with(&[RunStatus::Queued])).await, [queued]);
    assert_eq!(list(&client, with(&[RunStatus::Running])).await, [running]);
    assert_eq!(list(&client, with(&[RunStatus::Completed])).await, [ended]);
    assert_eq!(list(&client, with(&[RunStatus::Completed, RunStatus::Scheduled])).await, [delayed, ended]);
    pass.finish().await;
    assert_eq!(list(&client, with(&[RunStatus::Running])).await, []);
    assert_eq!(list(&client, with(&[RunStatus::Completed])).await, [ended, running]);
    let summary = client.server().list_runs(RunFilter { id: Some(ended), ..any() }, ALL).await.unwrap().runs.remove(0);
    assert_eq!((summary.status, summary.tasks.completed, summary.attempts), (RunStatus::Completed, 1, 1));
    assert_eq!(summary.ended_at, Some(harness.now()));
    let summary = client.server().list_runs(RunFilter { id: Some(queued), ..any() }, ALL).await.unwrap().runs.remove(0);
    assert_eq!((summary.started_at, summary.ended_at), (None, None));
}

pub async fn everything_that_a_filter_says_has_to_fit(harness: &impl ServerHarness) {
    let client = harness.client();
    let (one, two) = (workflow(), WorkflowKey::user("orders", "2.0.0"));
    let a = create_as(&client, referring("a", one.clone())).await;
    let b = create_as(&client, referring("a", two.clone())).await;
    let c = create_as(&client, referring("b", two.clone())).await;
    let d = create_as(&client, referring("a", WorkflowKey::user("refunds", "1"))).await;
    client.server().cancel_run(b, None).await.unwrap();
    let orders = || RunFilter { workflow: Some(WorkflowFilter::named("orders")), ..any() };
    let named = |reference: &str| RunFilter { reference_id: Some(reference.into()), ..any() };
    assert_eq!(list(&client, orders()).await, [c, b, a]);
    assert_eq!(list(&client, RunFilter { workflow: Some(two.clone().into()), ..any() }).await, [c, b]);
    assert_eq!(list(&client, named("a")).await, [d, b, a]);
    assert_eq!(list(&client, RunFilter { workflow: orders().workflow, ..named("a") }).await, [b, a]);
    assert_eq!(list(&client, RunFilter { workflow: Some(two.clone().into()), ..named("a") }).await, [b]);
    let cancelled = || vec![RunStatus::Cancelled];
    assert_eq!(list(&client, RunFilter { statuses: cancelled(), ..named("a") }).await, [b]);
    assert_eq!(list(&client, RunFilter { statuses: cancelled(), ..orders() }).await, [b]);
    let first = RunFilter { workflow: Some(one.into()), statuses: cancelled(), ..any() };
    assert_eq!(list(&client, first).await, []);
    assert_eq!(list(&client, RunFilter { id: Some(c), ..orders() }).await, [c]);
    assert_eq!(list(&client, RunFilter { id: Some(c), ..named("a") }).await, []);
    let system = WorkflowFilter { source: Source::System, ..WorkflowFilter::named("orders") };
    assert_eq!(list(&client, RunFilter { workflow: Some(system), ..any() }).await, []);
}

pub async fn runs_are_found_by_the_time_of_their_creation(harness: &impl ServerHarness) {
    let client = harness.client();
    let mut runs = Vec::new();
    let mut times = Vec::new();
    for _ in 0..3 {
        times.push(harness.now());
        runs.push(create(&client).await);
        harness.advance(Duration::from_secs(1)).await;
    }
    let between = |from: usize, until: usize| RunFilter {
        created_from: times.get(from).copied(),
        created_until: times.get(until).copied(),
        ..any()
    };
    assert_eq!(list(&client, between(1, 9)).await, [runs[2], runs[1]]);
    assert_eq!(list(&client, between(9, 1)).await, [runs[0]]);
    assert_eq!(list(&client, between(1, 2)).await, [runs[1]]);
    assert_eq!(list(&client, between(2, 1)).await, []);
    let queued = RunFilter { statuses: vec![RunStatus::Queued], ..between(1, 2) };
    assert_eq!(list(&client, queued).await, [runs[1]]);
    let other = RunFilter { workflow: Some(WorkflowFilter::named("other")), ..between(1, 2) };
    assert_eq!(list(&client, other).await, []);
}

pub async fn runs_are_found_by_what_started_them(harness: &impl ServerHarness) {
    let client = harness.client();
    let parent = create(&client).await;
    let mut pass = claim(&client, "w", parent).await;
    let started =
        pass.report(vec![Pass::start_child(0, child_start("1")), Pass::start_child(1, child_start("2"))]).await;
    let mut children: Vec<RunId> = started.children.iter().copied().flatten().collect();
    children.reverse();
    assert_eq!(children.len(), 2);
    let of = |parent| RunFilter { parent: Some(parent), ..any() };
    assert_eq!(list(&client, of(parent)).await, children);
    assert_eq!(list(&client, of(children[0])).await, []);
    client.server().cancel_run(children[0], None).await.unwrap();
    let open = RunFilter { statuses: vec![RunStatus::Queued], ..of(parent) };
    assert_eq!(list(&client, open).await, [children[1]]);

    let every = ScheduleSpec::every(Duration::from_secs(10)).overlap(OverlapPolicy::Allow);
    let CreateRun { input, input_hash, .. } = request("1");
    let asked = ActivateSchedule::new(workflow(), every, input, input_hash);
    let schedule = client.server().activate_schedule(asked).await.unwrap().id;
    harness.advance(Duration::from_secs(10)).await;
    harness.advance(Duration::from_secs(10)).await;
    let fired = list(&client, RunFilter { schedule: Some(schedule), ..any() }).await;
    assert_eq!(fired.len(), 2);
    let last = client.server().get_schedule(schedule).await.unwrap().last_run;
    assert_eq!(Some(fired[0]), last);
    assert_eq!(list(&client, RunFilter { schedule: Some(ScheduleId::from_bits(7)), ..any() }).await, []);
}

pub async fn a_list_shows_what_a_run_was_started_with(harness: &impl ServerHarness) {
    let client = harness.client();
    let options = Some(RunOptions { retry: None, pool: Some(Name::new("gpu")) });
    let asked = CreateRun { options, priority: Priority::High, ..referring("a", workflow()) };
    let run = create_as(&client, asked).await;
    let page = client.server().list_runs(any(), ALL).await.unwrap();
    let summary = &page.runs[0];
    assert_eq!((summary.id, &summary.workflow), (run, &workflow()));
    assert_eq!(summary.created_at, harness.now());
    assert_eq!(summary.reference_id.as_deref(), Some("a"));
    assert_eq!((summary.pool.as_ref(), summary.priority), (Some(&Name::new("gpu")), Priority::High));
    assert_eq!((summary.schedule, summary.parent), (None, None));
}

pub async fn statuses_are_counted_by_namespace_workflow_and_version(harness: &impl ServerHarness) {
    let client = harness.client();
    let stats = async |workflow: Option<WorkflowFilter>| client.run_stats(workflow).await.unwrap();
    assert_eq!(stats(None).await, StatusCounts::default());
    let runs = several(&client, 3).await;
    create_as(&client, CreateRun { workflow: WorkflowKey::user("orders", "2.0.0"), ..request("1") }).await;
    create_as(&client, CreateRun { workflow: WorkflowKey::user("refunds", "1"), ..request("1") }).await;
    client.server().cancel_run(runs[0], None).await.unwrap();
    let pass = claim(&client, "w", runs[1]).await;
    let counts = |counts: &[(RunStatus, u64)]| counts.iter().copied().collect::<StatusCounts>();
    use RunStatus::{Cancelled, Completed, Queued, Running};
    assert_eq!(stats(None).await, counts(&[(Queued, 3), (Running, 1), (Cancelled, 1)]));
    pass.finish().await;
    let orders = stats(Some(WorkflowFilter::named("orders"))).await;
    assert_eq!(orders, counts(&[(Queued, 2), (Completed, 1), (Cancelled, 1)]));
    assert_eq!((orders.total(), orders.of(Completed)), (4, 1));
    let second = WorkflowKey::user("orders", "2.0.0");
    assert_eq!(stats(Some(second.into())).await, counts(&[(Queued, 1)]));
    assert_eq!(stats(Some(WorkflowFilter::named("nobody"))).await, StatusCounts::default());
    let names: BTreeSet<_> = orders.iter().map(|(status, _)| status).collect();
    assert_eq!(names.len(), RunStatus::ALL.len(), "all are there, also those without runs");
}

pub async fn workflows_are_listed_from_their_first_use_on(harness: &impl ServerHarness) {
    let client = harness.client();
    let first = harness.now();
    several(&client, 2).await;
    harness.advance(Duration::from_secs(5)).await;
    let second = harness.now();
    create_as(&client, CreateRun { workflow: WorkflowKey::user("orders", "2.0.0"), ..request("1") }).await;
    let CreateRun { input, input_hash, .. } = request("1");
    let daily =
        ActivateSchedule::new(WorkflowKey::user("report", "1"), ScheduleSpec::cron("@daily"), input, input_hash);
    client.server().activate_schedule(daily.clone()).await.unwrap();
    client.server().activate_schedule(daily).await.unwrap();

    let page = client.list_workflows(WorkflowsQuery::default()).await.unwrap();
    let listed: Vec<_> = page.workflows.iter().map(|one| (one.name.as_str(), one.run_count, one.last_run_at)).collect();
    assert_eq!(listed, [("orders", 3, Some(second)), ("report", 0, None)]);
    assert_eq!(page.total, 2);
    let query = WorkflowsQuery { sort: (WorkflowSort::LastRunAt, SortOrder::Asc), limit: 1, ..Default::default() };
    let page = client.list_workflows(query).await.unwrap();
    assert_eq!((page.workflows[0].name.as_str(), page.workflows.len(), page.total), ("report", 1, 2));
    let prefixed = WorkflowsQuery { name_prefix: Some("ord".into()), ..Default::default() };
    assert_eq!(client.list_workflows(prefixed).await.unwrap().total, 1);
    let wild = WorkflowsQuery { name_prefix: Some("%".into()), ..Default::default() };
    assert_eq!(client.list_workflows(wild).await.unwrap().total, 0);
    let system = WorkflowsQuery { source: Source::System, ..Default::default() };
    assert_eq!(client.list_workflows(system).await.unwrap().total, 0);

    let page = client.list_workflow_versions(VersionsQuery::of("orders")).await.unwrap();
    let versions: Vec<_> = page.versions.iter().map(|one| (one.version.as_str(), one.first_seen_at)).collect();
    assert_eq!(versions, [("2.0.0", second), ("1.0.0", first)]);
    assert_eq!((page.versions[1].run_count, page.versions[1].last_run_at, page.total), (2, Some(first), 2));
    let sort = (VersionSort::RunCount, SortOrder::Asc);
    let query = VersionsQuery { sort, limit: 1, offset: 1, ..VersionsQuery::of("orders") };
    let page = client.list_workflow_versions(query).await.unwrap();
    assert_eq!((page.versions[0].version.as_str(), page.total), ("1.0.0", 2));
}

pub async fn namespaces_do_not_see_each_others_lists(harness: &impl ServerHarness) {
    let (ours, theirs) = (harness.client(), harness.client_for(Name::new("other")));
    let run = create_as(&ours, referring("a", workflow())).await;
    let own = create_as(&theirs, referring("a", workflow())).await;
    for filter in [
        any(),
        with(&[RunStatus::Queued]),
        RunFilter { reference_id: Some("a".into()), ..any() },
        RunFilter { workflow: Some(workflow().into()), ..any() },
        RunFilter { created_from: Some(run.created_at()), ..any() },
    ] {
        assert_eq!(list(&ours, filter.clone()).await, [run]);
        assert_eq!(list(&theirs, filter).await, [own]);
    }
    assert_eq!(list(&theirs, RunFilter { id: Some(run), ..any() }).await, []);
    assert_eq!(theirs.run_stats(None).await.unwrap().total(), 1);
    assert_eq!(harness.client_for(Name::new("third")).list_workflows(Default::default()).await.unwrap().total, 0);
    assert_eq!(theirs.export(run).await, Err(ServerError::RunNotFound(run)));
}

pub async fn an_exported_run_is_the_run(harness: &impl ServerHarness) {
    let client = harness.client();
    let run = create(&client).await;
    let mut pass = claim(&client, "w", run).await;
    for task in 0..40 {
        pass.report(vec![pass.open(task)]).await;
        pass.report(vec![pass.complete(task, "{\"text\":\"long enough to leave the row\"}")]).await;
    }
    pass.report(vec![Pass::sleep(0, Duration::from_secs(9)), Transition::Suspended]).await;
    let export = client.export(run).await.unwrap();
    let read = RunExport::from_json(&export.to_json().unwrap()).unwrap();
    assert_eq!(read, export);
    assert_eq!(read.record(), client.server().get_run(run).await.unwrap());
    assert_eq!(read.transitions(), client.server().list_transitions(run).await.unwrap());
    assert_eq!(read.exported_at, harness.now());
    let nobody = RunId::from_bits(77 << 24);
    assert_eq!(client.export(nobody).await, Err(ServerError::RunNotFound(nobody)));
}

pub async fn lists_and_counts_outlive_a_restart(harness: &impl ServerHarness) {
    let client = harness.client();
    let runs = several(&client, 2).await;
    client.server().cancel_run(runs[0], None).await.unwrap();
    harness.restart().await;
    let client = harness.client();
    assert_eq!(list(&client, with(&[RunStatus::Cancelled])).await, [runs[0]]);
    let third = create(&client).await;
    assert_eq!(list(&client, with(&[RunStatus::Queued])).await, [third, runs[1]]);
    assert_eq!(client.run_stats(None).await.unwrap().total(), 3);
}
