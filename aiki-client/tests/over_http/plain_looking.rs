//! Lists, counts, transitions and results by hand, by the plain contract.
#![allow(clippy::unwrap_used, reason = "for tests")]

use std::time::Duration;

use aiki_client::HttpClient;
use aiki_conformance::server::{
    ServerHarness, child_start, claim, create, create_as, event, request, send, try_claim, workflow,
};
use aiki_core::listing::{RunFilter, RunOrder, RunPageRequest, WorkflowFilter};
use aiki_core::name::WorkflowKey;
use aiki_core::run::plan::{CreateRun, TaskTarget};
use aiki_core::run::record::{Signal, TransitionChange};
use aiki_core::run::{Reference, RunStatus, TaskStatus};
use aiki_core::server_client::{ClaimOutcome, SetTaskResult};
use aiki_core::{Client, ErrorObject, Failure, Payload, RunId, ServerError, Transition};
use aiki_server::Server;

use crate::support::{OverHttp, Served, config};

const ALL: RunPageRequest = RunPageRequest { order: RunOrder::NewestFirst, after: None, offset: 0, limit: 1_000 };

async fn list(client: &Client, filter: RunFilter) -> Vec<RunId> {
    let page = client.server().list_runs(filter.clone(), ALL).await.unwrap();
    assert_eq!(client.server().count_runs(filter).await, Ok(page.runs.len() as u64));
    page.runs.iter().map(|run| run.id).collect()
}

/// A server whose ids tell no ordinals.
async fn abroad() -> (Server, Served, Client) {
    let server = Server::builder().start().await.unwrap();
    let served = Served::abroad(&server).await;
    let client = Client::new(HttpClient::connect(config(served.address)).unwrap());
    (server, served, client)
}

fn referring(id: &str, workflow: WorkflowKey) -> CreateRun {
    let reference = Some(Reference { id: id.into(), conflict_policy: Default::default() });
    CreateRun { reference, workflow, ..request("1") }
}

#[tokio::test]
async fn a_list_tells_where_runs_stand_and_of_what_they_are() {
    let house = OverHttp::plain().await;
    let client = house.client();
    let run = create_as(&client, referring("a", workflow())).await;
    let mut pass = claim(&client, "w", run).await;
    pass.report(vec![pass.open(0), pass.open(1), pass.complete(0, "1")]).await;
    let page = client.server().list_runs(RunFilter::default(), ALL).await.unwrap();
    let summary = &page.runs[0];
    assert_eq!((summary.id, &summary.workflow, summary.status), (run, &workflow(), RunStatus::Running));
    assert_eq!((summary.created_at, summary.reference_id.as_deref()), (house.now(), Some("a")));
    assert_eq!((summary.tasks.completed, summary.tasks.running), (1, 1));
    assert_eq!((summary.attempts, summary.started_at), (0, None), "the contract's list does not tell");
}

#[tokio::test]
async fn children_are_listed_where_they_stand_and_with_their_pools() {
    let house = OverHttp::plain().await;
    let client = house.client();
    let parent = create(&client).await;
    let mut pass = claim(&client, "w", parent).await;
    let mut pooled = child_start("2");
    pooled.options.pool = Some("gpu".into());
    let starts = [child_start("1"), pooled, child_start("3")];
    let starts = starts.into_iter().zip(0..).map(|(start, n)| aiki_conformance::server::Pass::start_child(n, start));
    let children: Vec<RunId> = pass.report(starts.collect()).await.children.into_iter().flatten().collect();
    client.server().cancel_run(children[2], None).await.unwrap();
    let of = RunFilter { parent: Some(parent), ..RunFilter::default() };
    assert_eq!(list(&client, of.clone()).await, [children[2], children[1], children[0]]);
    let queued = RunFilter { statuses: vec![RunStatus::Queued], ..of.clone() };
    assert_eq!(list(&client, queued).await, [children[1], children[0]]);
    let other = RunFilter { workflow: Some(WorkflowFilter::named("other")), ..of.clone() };
    assert!(list(&client, other).await.is_empty());
    let asked = RunPageRequest { order: RunOrder::OldestFirst, after: Some(children[0]), offset: 0, limit: 1 };
    let page = client.server().list_runs(of, asked).await.unwrap();
    assert_eq!((page.runs[0].id, page.next), (children[1], Some(children[1])));
    assert_eq!(
        (page.runs[0].parent, page.runs[0].pool.as_ref().map(|pool| pool.as_str())),
        (Some(parent), Some("gpu"))
    );
}

#[tokio::test]
async fn a_page_from_behind_a_run_takes_few_requests_of_a_long_list() {
    let server = Server::builder().start().await.unwrap();
    let served = Served::plain(&server).await;
    let http = HttpClient::connect(config(served.address)).unwrap();
    let embedded = server.client();
    let mut runs = Vec::new();
    for _ in 0..200 {
        runs.push(create(&embedded).await);
    }
    let client = Client::new(http.clone());
    client.run_stats(None).await.unwrap();
    let before = http.requests();
    let asked = RunPageRequest { after: Some(runs[100]), limit: 10, ..ALL };
    let page = client.server().list_runs(RunFilter::default(), asked).await.unwrap();
    let found: Vec<_> = page.runs.iter().map(|run| run.id).collect();
    assert_eq!(found, runs[90..100].iter().rev().copied().collect::<Vec<_>>());
    assert!(http.requests() - before <= 12, "{}", http.requests() - before);
}

#[tokio::test]
async fn an_operator_sets_results_under_the_ids_that_a_record_or_a_list_tells() {
    let (_server, _served, client) = abroad().await;
    let run = create(&client).await;
    let mut pass = claim(&client, "w", run).await;
    pass.report(vec![pass.open(0), pass.open(1), pass.open(2)]).await;
    let tasks: Vec<_> = client.server().get_run(run).await.unwrap().tasks.iter().map(|task| task.id).collect();
    client.set_task_output(tasks[0], &7).await.unwrap();
    client.fail_task(tasks[1], Failure::new("E", "given up")).await.unwrap();
    let statuses: Vec<_> =
        client.server().get_run(run).await.unwrap().tasks.iter().map(|task| task.state.status()).collect();
    assert_eq!(statuses, [TaskStatus::Completed, TaskStatus::Failed, TaskStatus::Running]);
    let again = client.set_task_output(tasks[0], &8).await;
    assert!(matches!(again, Err(ServerError::IllegalTransition(_))), "{again:?}");
    // What a worker calls a task is not what such a server knows it by.
    let unknown = client.set_task_output(run.task(2), &8).await;
    assert_eq!(unknown, Err(ServerError::TaskNotFound(run.task(2))));
    let listed = client.server().list_transitions(run).await.unwrap();
    let changed: Vec<_> = listed
        .iter()
        .filter_map(|one| match &one.change {
            TransitionChange::Task(task, state) => Some((*task, state.status())),
            TransitionChange::Run(_) => None,
        })
        .collect();
    assert_eq!(changed.last(), Some(&(tasks[1], TaskStatus::Failed)));
    client.server().cancel_run(run, None).await.unwrap();
    let late = client.set_task_output(tasks[2], &8).await;
    assert_eq!(late, Err(ServerError::RunEnded { run, status: RunStatus::Cancelled }));
}

#[tokio::test]
async fn a_result_is_kept_for_a_task_to_come() {
    let (_server, _served, client) = abroad().await;
    let run = create(&client).await;
    let CreateRun { input, input_hash, .. } = request("1");
    let target = TaskTarget::New { name: "ship".into(), input, input_hash };
    let result = Ok(Payload::from_json("7").ok());
    client.server().set_task_result(SetTaskResult { run, target: target.clone(), result }).await.unwrap();
    let pass = claim(&client, "w", run).await;
    assert_eq!(pass.claimed.record.tasks[0].name, "ship");
    assert_eq!(pass.claimed.record.tasks[0].state.status(), TaskStatus::Completed);
    pass.finish().await;
    let result = Err(ErrorObject::new("E", "no"));
    let late = client.server().set_task_result(SetTaskResult { run, target: target.clone(), result }).await;
    assert_eq!(late, Err(ServerError::RunEnded { run, status: RunStatus::Completed }));
    let nobody = RunId::from_bits(77 << 24);
    let lost = client.server().set_task_result(SetTaskResult { run: nobody, target, result: Ok(None) }).await;
    assert_eq!(lost, Err(ServerError::RunNotFound(nobody)));
}

#[tokio::test]
async fn many_transitions_are_listed_whole() {
    let server = Server::builder().start().await.unwrap();
    let served = Served::plain(&server).await;
    let client = Client::new(HttpClient::connect(config(served.address)).unwrap());
    let embedded = server.client();
    let run = create(&embedded).await;
    let mut pass = claim(&embedded, "w", run).await;
    // More than a page of them: the server sends at most 1,000.
    let tasks = 510;
    let both = (0..tasks).flat_map(|task| [pass.open(task), pass.complete(task, "1")]).collect::<Vec<_>>();
    for some in both.chunks(400) {
        pass.report(some.to_vec()).await;
    }
    pass.report(vec![Transition::Completed { output: None }]).await;
    let listed = client.server().list_transitions(run).await.unwrap();
    assert_eq!(listed.len(), 4 + 2 * tasks as usize);
    assert!(listed.windows(2).all(|pair| pair[0].id < pair[1].id));
    let nobody = RunId::from_bits(77 << 24);
    assert_eq!(client.server().list_transitions(nobody).await, Err(ServerError::RunNotFound(nobody)));
}

#[tokio::test]
async fn signals_of_a_run_that_is_not_held_are_told_too() {
    let house = OverHttp::plain().await;
    let client = house.client();
    let run = create(&client).await;
    let mut pass = claim(&client, "w", run).await;
    let start = aiki_conformance::server::Pass::start_child(0, child_start("1"));
    let child = pass.report(vec![start]).await.children[0].unwrap();
    client.server().cancel_run(child, None).await.unwrap();
    pass.finish().await;
    let another = create(&client).await;
    send(&client, another, "paid").await;
    let signals = client.server().get_signals(run, 0).await.unwrap();
    assert!(matches!(&signals[..], [Signal::ChildEnded { child: 0, .. }]), "{signals:?}");
    let signals = client.server().get_signals(another, 0).await.unwrap();
    assert!(matches!(&signals[..], [Signal::Event(event)] if event.name == "paid"), "{signals:?}");
    assert!(client.server().get_signals(another, 1).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_start_under_a_known_reference_says_so_and_a_conflict_names_the_run() {
    let (_server, _served, client) = abroad().await;
    let asked = referring("a", workflow());
    let first = client.server().create_run(asked.clone()).await.unwrap();
    let again = client.server().create_run(asked).await.unwrap();
    assert_eq!((first.existed, again.existed, again.id), (false, true, first.id));
    let reference = Some(Reference { id: "a".into(), conflict_policy: Default::default() });
    let refused = client.server().create_run(CreateRun { reference, ..request("2") }).await;
    assert_eq!(refused, Err(ServerError::ReferenceConflict { reference_id: "a".into(), run: first.id }));
    let found = RunFilter { reference_id: Some("a".into()), ..RunFilter::default() };
    assert_eq!(list(&client, found).await, [first.id]);
    tokio::time::sleep(Duration::from_millis(2)).await;
    let later = create(&client).await;
    let newer = RunFilter { created_from: Some(later.created_at()), ..RunFilter::default() };
    assert_eq!(list(&client, newer).await, [later]);
}

#[tokio::test]
async fn namespaces_do_not_see_each_other_by_the_plain_contract() {
    let house = OverHttp::plain().await;
    let (ours, theirs) = (house.client(), house.client_for("other".into()));
    let run = create_as(&ours, referring("a", workflow())).await;
    let own = create_as(&theirs, referring("a", workflow())).await;
    let gone = |answer: Result<(), ServerError>| assert_eq!(answer, Err(ServerError::RunNotFound(run)));
    let server = theirs.server();
    gone(server.get_run(run).await.map(drop));
    gone(server.await_run(run, Duration::ZERO).await.map(drop));
    gone(server.list_transitions(run).await.map(drop));
    gone(server.cancel_run(run, None).await);
    gone(server.send_event(event(run, "paid", None)).await);
    gone(server.export_run(run).await.map(drop));
    assert!(server.list_child_runs(run, &[]).await.unwrap().is_empty());
    assert!(server.cancel_runs(&[run]).await.unwrap().is_empty());
    assert_eq!(try_claim(&theirs, "w", run).await, ClaimOutcome::Done);
    let named = RunFilter { reference_id: Some("a".into()), ..RunFilter::default() };
    assert_eq!((list(&ours, named.clone()).await, list(&theirs, named).await), (vec![run], vec![own]));
}
