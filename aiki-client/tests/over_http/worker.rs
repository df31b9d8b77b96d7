//! A worker and a caller, both over HTTP.
#![allow(clippy::unwrap_used, reason = "for tests")]

use std::time::Duration;

use aiki_client::HttpClient;
use aiki_core::{Client, Either, Event, Failure, Run, Task, TaskContext, Workflow, WorkflowVersion, race};
use aiki_server::Server;
use aiki_worker::{ClaimSubscriber, Worker};

use crate::support::proxy::Proxy;
use crate::support::{Served, config};

/// Tasks of a run.
const TASKS: u32 = 5;
/// Runs under way at the same time.
const RUNS: usize = 64;

fn sums() -> WorkflowVersion<u32, u32, Failure> {
    let add = Task::new("add", |_: TaskContext, (sum, n): (u32, u32)| async move { Ok::<_, Failure>(sum + n) });
    Workflow::new("sums").version("1.0.0", move |run: Run, first: u32| {
        let add = add.clone();
        async move {
            let mut sum = first;
            for n in 0..TASKS {
                sum = add.start(&run, (sum, n)).await?;
            }
            Ok::<_, Failure>(sum)
        }
    })
}

struct House {
    _server: Server,
    _served: Served,
    caller: HttpClient,
    hands: HttpClient,
    worker: Worker,
}

impl House {
    async fn open(register: impl FnOnce(&Worker)) -> Self {
        let server = Server::builder().start().await.unwrap();
        let served = Served::on_any(&server).await;
        let caller = HttpClient::connect(config(served.address)).unwrap();
        let hands = HttpClient::connect(config(served.address)).unwrap();
        let client = Client::new(hands.clone());
        let subscriber = ClaimSubscriber::new(&client).poll_interval(Duration::from_millis(20));
        let worker = Worker::builder(client).subscriber(subscriber).max_concurrent_workflow_runs(RUNS).build().unwrap();
        register(&worker);
        let starting = worker.clone();
        tokio::spawn(async move { starting.start().await });
        Self { _server: server, _served: served, caller, hands, worker }
    }

    fn client(&self) -> Client {
        Client::new(self.caller.clone())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_of_five_tasks_needs_few_requests_and_many_runs_share_them() {
    let sums = sums();
    let house = House::open(|worker| drop(worker.workflow_registry().add(&sums))).await;
    let client = house.client();
    assert_eq!(sums.start(&client, 1).await.unwrap().wait().await.unwrap(), 11);
    let before = house.caller.requests();
    assert_eq!(sums.start(&client, 2).await.unwrap().wait().await.unwrap(), 12);
    assert!(house.caller.requests() - before <= 2, "one to start, one to wait");

    let (calling, working) = (house.caller.requests(), house.hands.requests());
    let runs: Vec<_> = (0..10 * RUNS as u32)
        .map(|n| {
            let (sums, client) = (sums.clone(), client.clone());
            async move { assert_eq!(sums.start(&client, n).await.unwrap().wait().await.unwrap(), n + 10) }
        })
        .collect();
    let mut under_way = tokio::task::JoinSet::new();
    let count = runs.len() as u64;
    for run in runs {
        if under_way.len() >= RUNS {
            under_way.join_next().await.unwrap().unwrap();
        }
        under_way.spawn(run);
    }
    while let Some(done) = under_way.join_next().await {
        done.unwrap();
    }
    let (calling, working) = (house.caller.requests() - calling, house.hands.requests() - working);
    println!("{count} runs of {TASKS} tasks: {calling} requests of the caller, {working} of the worker");
    assert!((calling + working) < 3 * count, "{calling} + {working} requests for {count} runs");
    house.worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sleeps_events_and_children_work_over_http() {
    const GO: Event<u32> = Event::new("go");
    let sums = sums();
    let child = sums.clone();
    let parent = Workflow::new("parent")
        .version("1.0.0", move |run: Run, first: u32| {
            let child = child.clone();
            async move {
                run.sleep("nap", Duration::from_millis(20)).await;
                let more = run.event(&GO).await;
                let sum = child.start_child(&run, first + more).wait().await?;
                Ok::<_, Failure>(sum)
            }
        })
        .event(&GO);
    let house = House::open(|worker| drop(worker.workflow_registry().add(&sums).add(&parent))).await;
    let client = house.client();
    let run = parent.start(&client, 1).await.unwrap();
    run.send_event(&GO, 5).await.unwrap();
    assert_eq!(run.wait().await.unwrap(), 16);
    house.worker.stop().await;
    house.caller.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_reaches_its_worker_though_the_news_of_it_was_lost() {
    const STOP: Event<u32> = Event::new("stop");
    let server = Server::builder().start().await.unwrap();
    let served = Served::on_any(&server).await;
    let proxy = Proxy::to(served.address).await;
    let work = Task::new("work", |_: TaskContext, (): ()| async move {
        tokio::time::sleep(Duration::from_secs(3_600)).await;
        Ok::<_, Failure>(())
    });
    let works = Workflow::new("works")
        .version("1", move |run: Run, (): ()| {
            let work = work.clone();
            async move {
                Ok::<_, Failure>(match race(run.event(&STOP), work.start(&run, ())).await {
                    Either::Left(reason) => reason,
                    Either::Right(_) => 0,
                })
            }
        })
        .event(&STOP);
    let client = Client::new(HttpClient::connect(config(proxy.address)).unwrap());
    let subscriber = ClaimSubscriber::new(&client).poll_interval(Duration::from_millis(20));
    let worker = Worker::builder(client).subscriber(subscriber).build().unwrap();
    worker.workflow_registry().add(&works);
    let starting = worker.clone();
    tokio::spawn(async move { starting.start().await });
    let run = works.start(&server.client(), ()).await.unwrap();
    while run.record().await.unwrap().tasks.is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    proxy.lose(1);
    run.send_event(&STOP, 7).await.unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(10), run.wait()).await;
    assert_eq!(ended.expect("it looks by itself, long before its next heartbeat").unwrap(), 7);
    assert_eq!(proxy.left(), 0);
    worker.stop().await;
}
