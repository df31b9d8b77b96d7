//! Claims that are lost, contested or kept against the odds.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use aiki_core::run::TaskState;
use aiki_core::run::record::TransitionChange;
use aiki_core::subscriber::{DeliveryLease, Guarantees, Receipt, ReleaseDelay, SubscriberError, Subscription};
use aiki_core::{
    Clock, Delivery, Failure, Publisher, ReadyRun, Run, RunHandle, Subscriber, SubscriberFactory, Task, TaskContext,
    Timestamp, Workflow, WorkflowVersion,
};
use aiki_runtime::VirtualClock;
use aiki_server::Server;
use aiki_subscriber_memory::MemoryQueue;
use aiki_worker::Worker;
use async_trait::async_trait;
use common::faulty::Faulty;
use common::logs::Logs;
use common::{House, start, until};
use tokio::time::Instant;

/// One task of so many seconds, and how often its body began and ended.
#[derive(Clone, Default)]
struct Bodies {
    began: Arc<AtomicUsize>,
    ended: Arc<AtomicUsize>,
}

impl Bodies {
    fn workflow(&self, steps: usize) -> WorkflowVersion<u64, u64> {
        let bodies = self.clone();
        let task = Task::new("work", move |_: TaskContext, secs: u64| {
            let bodies = bodies.clone();
            async move {
                bodies.began.fetch_add(1, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_secs(secs)).await;
                bodies.ended.fetch_add(1, Ordering::SeqCst);
                Ok::<_, Failure>(secs)
            }
        });
        Workflow::new("work").version("1.0.0", move |run: Run, secs: u64| {
            let task = task.clone();
            async move {
                let mut sum = 0;
                for _ in 0..steps {
                    sum += task.start(&run, secs).await?;
                }
                Ok::<_, Failure>(sum)
            }
        })
    }

    fn counts(&self) -> (usize, usize) {
        (self.began.load(Ordering::SeqCst), self.ended.load(Ordering::SeqCst))
    }
}

/// How often a task of the run was recorded as completed.
async fn recorded(house: &House, handle: &RunHandle<u64, Failure>) -> usize {
    let transitions = house.client.server().list_transitions(handle.id()).await.unwrap();
    let completed =
        |change: &TransitionChange| matches!(change, TransitionChange::Task(_, TaskState::Completed { .. }));
    transitions.iter().filter(|transition| completed(&transition.change)).count()
}

#[tokio::test(start_paused = true)]
async fn a_partitioned_worker_stops_before_another_one_begins() {
    let logs = Logs::capture();
    let house = House::new().await;
    let (client, faults) = Faulty::wrap(&house.client);
    let (here, there) = (Bodies::default(), Bodies::default());
    let cut_off = house.worker_for("cut-off", client).build().unwrap();
    cut_off.workflow_registry().add(here.workflow(1));
    start(&cut_off);
    let handle = here.workflow(1).start(&house.client, 100).await.unwrap();
    until("it is taken", || here.counts().0 == 1).await;
    faults.down.store(true, Ordering::SeqCst);

    let other = house.worker("other").build().unwrap();
    other.workflow_registry().add(there.workflow(1));
    start(&other);
    until("the other worker begins", || there.counts().0 == 1).await;
    assert_eq!(cut_off.status().active.len(), 0, "two handlers of one run");
    assert_eq!(logs.count("not confirmed in time"), 1);
    faults.down.store(false, Ordering::SeqCst);
    assert_eq!(handle.wait().await.unwrap(), 100);
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert_eq!((here.counts(), there.counts()), ((1, 0), (1, 1)));
    assert_eq!(recorded(&house, &handle).await, 1);
    assert_eq!(cut_off.stop().await.totals.lost, 1);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_hangs_is_fenced_like_one_that_is_gone() {
    let house = House::new().await;
    let (client, faults) = Faulty::wrap(&house.client);
    let bodies = Bodies::default();
    let worker = house.worker_for("waiting", client).build().unwrap();
    worker.workflow_registry().add(bodies.workflow(1));
    start(&worker);
    bodies.workflow(1).start(&house.client, 1_000).await.unwrap();
    until("it is taken", || bodies.counts().0 == 1).await;
    let began = Instant::now();
    faults.hanging.store(true, Ordering::SeqCst);
    until("the handler is stopped", || worker.status().active.is_empty()).await;
    let took = began.elapsed();
    assert!((Duration::from_secs(37)..=Duration::from_millis(58_100)).contains(&took), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_run_that_completes_between_a_heartbeat_and_the_answer_to_its_report_is_not_lost() {
    let house = House::new().await;
    let (client, faults) = Faulty::wrap(&house.client);
    let bodies = Bodies::default();
    let worker = house.worker_for("w", client).build().unwrap();
    worker.workflow_registry().add(bodies.workflow(1));
    start(&worker);
    let handle = bodies.workflow(1).start(&house.client, 5).await.unwrap();
    until("the body begins", || bodies.counts().0 == 1).await;
    // Long enough for a heartbeat, which hears that the claim has ended.
    faults.slow_reports.store(30_000, Ordering::SeqCst);
    assert_eq!(handle.wait().await.unwrap(), 5);
    until("the worker hears of it", || worker.status().active.is_empty()).await;
    let totals = worker.stop().await.totals;
    assert!(faults.refreshes.load(Ordering::SeqCst) > 0);
    assert_eq!((totals.completed, totals.lost), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_claim_whose_answer_was_long_on_its_way_is_given_back_before_anything_begins() {
    let house = House::new().await;
    let (client, faults) = Faulty::wrap(&house.client);
    let bodies = Bodies::default();
    let worker = house.worker_for("late", client).build().unwrap();
    worker.workflow_registry().add(bodies.workflow(1));
    start(&worker);
    faults.slow_claims.store(55_000, Ordering::SeqCst);
    let handle = bodies.workflow(1).start(&house.client, 1).await.unwrap();
    until("it is claimed", || !faults.claim_batches.lock().unwrap().is_empty()).await;
    faults.slow_claims.store(0, Ordering::SeqCst);
    until("a body begins", || bodies.counts().0 == 1).await;
    let given_back = faults.release_batches.lock().unwrap().clone();
    assert_eq!(given_back, [1], "the fence was three seconds away, and a heartbeat 20");
    assert_eq!(handle.wait().await.unwrap(), 1);
    assert_eq!(bodies.counts(), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_long_task_keeps_its_claim_for_many_leases() {
    let house = House::new().await;
    let bodies = Bodies::default();
    let workers: Vec<_> = (0..2).map(|n| house.worker(&format!("w{n}")).build().unwrap()).collect();
    for worker in &workers {
        worker.workflow_registry().add(bodies.workflow(1));
        start(worker);
    }
    let handle = bodies.workflow(1).start(&house.client, 1_000).await.unwrap();
    assert_eq!(handle.wait().await.unwrap(), 1_000);
    assert_eq!(bodies.counts(), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_run_stops_its_handler_within_a_heartbeat() {
    let house = House::new().await;
    let bodies = Bodies::default();
    let worker = house.worker("w").build().unwrap();
    worker.workflow_registry().add(bodies.workflow(1));
    start(&worker);
    let handle = bodies.workflow(1).start(&house.client, 1_000).await.unwrap();
    until("it is taken", || bodies.counts().0 == 1).await;
    handle.cancel().await.unwrap();
    let began = Instant::now();
    until("the slot is free", || worker.status().active.is_empty()).await;
    assert!(began.elapsed() <= Duration::from_millis(20_100), "{:?}", began.elapsed());
    assert_eq!(bodies.counts(), (1, 0));
    assert_eq!(worker.stop().await.totals.lost, 1);
}

#[tokio::test(start_paused = true)]
async fn a_passing_outage_costs_neither_the_claim_nor_a_body() {
    let house = House::new().await;
    let (client, faults) = Faulty::wrap(&house.client);
    let bodies = Bodies::default();
    let worker = house.worker_for("patient", client).build().unwrap();
    worker.workflow_registry().add(bodies.workflow(3));
    start(&worker);
    let handle = bodies.workflow(3).start(&house.client, 10).await.unwrap();
    until("it is taken", || bodies.counts().0 == 1).await;
    faults.down.store(true, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_secs(25)).await;
    faults.down.store(false, Ordering::SeqCst);
    assert_eq!(handle.wait().await.unwrap(), 30);
    assert_eq!(bodies.counts(), (3, 3));
    let totals = worker.stop().await.totals;
    assert_eq!((totals.claimed, totals.lost), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_report_whose_answer_was_lost_is_written_once() {
    let house = House::new().await;
    let (client, faults) = Faulty::wrap(&house.client);
    faults.lost_replies.store(6, Ordering::SeqCst);
    let bodies = Bodies::default();
    let worker = house.worker_for("deaf", client).build().unwrap();
    worker.workflow_registry().add(bodies.workflow(3));
    start(&worker);
    let handle = bodies.workflow(3).start(&house.client, 1).await.unwrap();
    assert_eq!(handle.wait().await.unwrap(), 3);
    until("the last report is answered", || faults.lost_replies.load(Ordering::SeqCst) == 0).await;
    let record = handle.record().await.unwrap();
    assert_eq!((record.tasks.len(), bodies.counts(), recorded(&house, &handle).await), (3, (3, 3), 3));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_begun_under_a_claim_that_was_answered_when_its_lease_was_nearly_over() {
    for through_queue in [true, false] {
        let logs = Logs::capture();
        let house = House::new().await;
        let (client, faults) = Faulty::wrap(&house.client);
        let bodies = Bodies::default();
        let worker = if through_queue { house.worker_for("w", client) } else { house.claiming_worker("w", client) }
            .build()
            .unwrap();
        worker.workflow_registry().add(bodies.workflow(1));
        // Beyond the fence of 58 s, within the lease of 60 s.
        faults.slow_claims.store(59_000, Ordering::SeqCst);
        let handle = bodies.workflow(1).start(&house.client, 10).await.unwrap();
        tokio::time::sleep(Duration::from_secs(2)).await;
        start(&worker);
        let claimed = || faults.claim_batches.lock().unwrap().len() + faults.ready_claims.load(Ordering::SeqCst) > 0;
        until("a claim is under way", claimed).await;
        faults.slow_claims.store(0, Ordering::SeqCst);
        assert_eq!(handle.wait().await.unwrap(), 10);
        assert_eq!(bodies.counts(), (1, 1), "a body was begun only to be cut off");
        assert_eq!(logs.count("given back unused"), 1);
        let totals = worker.stop().await.totals;
        assert_eq!((totals.claimed, totals.lost, totals.handed_back), (1, 0, 1));
        let announced = usize::from(!through_queue);
        assert_eq!((house.queue.depth(), house.queue.delayed(), house.queue.held()), (announced, 0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_delivered_to_two_workers_is_executed_by_one() {
    let house = House::new().await;
    let second_queue = MemoryQueue::new();
    let bodies = Bodies::default();
    let first = house.worker("first").build().unwrap();
    let second = house.worker("second").subscriber(second_queue.clone()).build().unwrap();
    for worker in [&first, &second] {
        worker.workflow_registry().add(bodies.workflow(1));
        start(worker);
    }
    let handle = bodies.workflow(1).start(&house.client, 10).await.unwrap();
    until("the first has it", || bodies.counts().0 == 1).await;
    let record = handle.record().await.unwrap();
    let ready = ReadyRun {
        id: record.id,
        namespace: record.namespace,
        workflow: record.workflow,
        pool: None,
        priority: record.priority,
    };
    assert!(second_queue.publish(&[ready]).await.failed.is_empty());
    until("the second puts it back", || second_queue.delayed() == 1).await;
    assert_eq!(second.status().totals.claimed, 0);
    assert_eq!(handle.wait().await.unwrap(), 10);
    // When the lease would have lapsed it comes again, and is found to be done.
    tokio::time::sleep(Duration::from_secs(90)).await;
    assert_eq!((second_queue.depth(), second_queue.delayed(), second_queue.held()), (0, 0, 0));
    assert_eq!((bodies.counts(), second.status().totals.claimed), ((1, 1), 0));
}

#[tokio::test(start_paused = true)]
async fn what_is_received_together_is_claimed_together() {
    let house = House::new().await;
    let (client, faults) = Faulty::wrap(&house.client);
    let bodies = Bodies::default();
    let workflow = bodies.workflow(1);
    for _ in 0..20 {
        workflow.start(&house.client, 1).await.unwrap();
    }
    common::settle().await;
    let worker = house.worker_for("wide", client).max_concurrent_workflow_runs(8).build().unwrap();
    worker.workflow_registry().add(&workflow);
    start(&worker);
    until("all are done", || worker.status().totals.completed == 20).await;
    assert_eq!(*faults.claim_batches.lock().unwrap(), [8, 8, 4]);
}

#[tokio::test(start_paused = true)]
async fn all_claims_are_prolonged_in_one_call() {
    let house = House::new().await;
    let (client, faults) = Faulty::wrap(&house.client);
    let bodies = Bodies::default();
    let worker = house.worker_for("wide", client).max_concurrent_workflow_runs(8).build().unwrap();
    worker.workflow_registry().add(bodies.workflow(1));
    start(&worker);
    for _ in 0..8 {
        bodies.workflow(1).start(&house.client, 110).await.unwrap();
    }
    until("all are done", || worker.status().totals.completed == 8).await;
    // One when it subscribed, then one every 20 s.
    assert_eq!(faults.refreshes.load(Ordering::SeqCst), 1 + 5);
}

/// A transport that has forgotten every delivery when it is renewed.
#[derive(Debug)]
struct Forgetful(MemoryQueue);
struct ForgetfulSubscriber(Box<dyn Subscriber>);

#[async_trait]
impl SubscriberFactory for Forgetful {
    async fn subscribe(&self, subscription: Subscription) -> Result<Box<dyn Subscriber>, SubscriberError> {
        Ok(Box::new(ForgetfulSubscriber(self.0.subscribe(subscription).await?)))
    }
    fn claim_min_idle_time(&self) -> Option<Duration> {
        self.0.claim_min_idle_time()
    }
}

#[async_trait]
impl Subscriber for ForgetfulSubscriber {
    async fn receive(&self, limit: usize) -> Result<Vec<Delivery>, SubscriberError> {
        self.0.receive(limit).await
    }
    async fn ack(&self, _: &[Receipt]) -> Result<(), SubscriberError> {
        Err(SubscriberError::Unavailable("forgotten".into()))
    }
    async fn heartbeat(&self, receipts: &[Receipt]) -> Result<Vec<DeliveryLease>, SubscriberError> {
        Ok(receipts.iter().map(|_| DeliveryLease::Gone).collect())
    }
    async fn release(&self, receipts: &[Receipt], delay: ReleaseDelay) -> Result<(), SubscriberError> {
        self.0.release(receipts, delay).await
    }
    fn next_delay(&self, failures: u32) -> Duration {
        self.0.next_delay(failures)
    }
    fn guarantees(&self) -> Guarantees {
        self.0.guarantees()
    }
    async fn close(&self) -> Result<(), SubscriberError> {
        self.0.close().await
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_delivery_never_stops_a_handler() {
    let house = House::new().await;
    let bodies = Bodies::default();
    let worker = house.worker("w").subscriber(Forgetful(house.queue.clone())).build().unwrap();
    worker.workflow_registry().add(bodies.workflow(1));
    start(&worker);
    // The transport gives the unrenewed delivery out again after 60 s, to this same worker.
    let handle = bodies.workflow(1).start(&house.client, 200).await.unwrap();
    assert_eq!(handle.wait().await.unwrap(), 200);
    assert_eq!(bodies.counts(), (1, 1));
    assert_eq!(worker.stop().await.totals.lost, 0);
}

/// A clock that was set.
struct Stepped {
    base: Arc<VirtualClock>,
    ahead: AtomicU64,
}

impl Clock for Stepped {
    fn now(&self) -> Timestamp {
        self.base.now().after(Duration::from_millis(self.ahead.load(Ordering::SeqCst)))
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_that_the_server_takes_back_under_its_worker_is_neither_doubled_nor_passed_back_and_forth() {
    let base = Arc::new(VirtualClock::default());
    let clock = Arc::new(Stepped { base, ahead: AtomicU64::new(0) });
    let server = Server::builder().clock(clock.clone()).start().await.unwrap();
    let (at_once, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    /// Counts a body for as long as it lives.
    struct Alive(Arc<AtomicUsize>);
    impl Drop for Alive {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::SeqCst);
        }
    }
    let (counter, max) = (at_once.clone(), most.clone());
    let work = Task::new("work", move |_: TaskContext, (): ()| {
        max.fetch_max(counter.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        let alive = Alive(counter.clone());
        async move {
            tokio::time::sleep(Duration::from_secs(30)).await;
            drop(alive);
            Ok::<_, Failure>(())
        }
    });
    let workflow = Workflow::new("long").version("1.0.0", move |run: Run, (): ()| {
        let work = work.clone();
        async move { Ok::<_, Failure>(work.start(&run, ()).await?) }
    });
    // Time goes by with every claim, so that a hot loop would be counted and not hang.
    let (client, faults) = Faulty::wrap(&server.client());
    faults.slow_claims.store(10, Ordering::SeqCst);
    let worker = Worker::builder(client)
        .id("alone")
        .max_concurrent_workflow_runs(2)
        .clock(clock.clone())
        .heartbeat_on_runtime(true)
        .build()
        .unwrap();
    worker.workflow_registry().add(&workflow);
    start(&worker);
    let handle = workflow.start(&server.client(), ()).await.unwrap();
    until("the body began", || at_once.load(Ordering::SeqCst) == 1).await;
    let before = server.client().server().list_transitions(handle.id()).await.unwrap().len();
    clock.ahead.store(61_000, Ordering::SeqCst);
    server.run_due_timers().await.unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    let after = server.client().server().list_transitions(handle.id()).await.unwrap();
    // It was taken back and claimed once more; its task began anew.
    assert!(after.len() - before <= 4, "{} transitions in 3 s", after.len() - before);
    assert_eq!((worker.status().totals.claimed, worker.status().totals.lost), (2, 1));
    let began = Instant::now();
    handle.wait().await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(31), "{:?}", began.elapsed());
    assert_eq!(most.load(Ordering::SeqCst), 1, "two bodies at once");
    assert!(worker.stop().await.is_clean());
}

#[tokio::test(start_paused = true)]
async fn a_worker_whose_claims_the_server_refuses_to_prolong_says_so_and_takes_nothing_new() {
    let logs = Logs::capture();
    let house = House::new().await;
    let (client, faults) = Faulty::wrap(&house.client);
    let bodies = Bodies::default();
    let worker = house.worker_for("refused", client).build().unwrap();
    worker.workflow_registry().add(bodies.workflow(1));
    start(&worker);
    bodies.workflow(1).start(&house.client, 1_000).await.unwrap();
    until("it is taken", || bodies.counts().0 == 1).await;
    faults.refuses_refresh.store(true, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_secs(21)).await;
    let told = logs.text().lines().filter(|line| line.contains("refuses to prolong")).count();
    assert_eq!(told, 1, "{}", logs.text());
    assert!(logs.text().lines().any(|line| line.contains("ERROR") && line.contains("no such lease")));
    assert_eq!(logs.count("trying again"), 0, "{}", logs.text());
    bodies.workflow(1).start(&house.client, 1).await.unwrap();
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(worker.status().totals.claimed, 1, "a claim that could not be kept");
    assert!(!worker.status().paused);
    faults.refuses_refresh.store(false, Ordering::SeqCst);
    until("it takes runs again", || worker.status().totals.completed == 1).await;
    assert_eq!(worker.status().totals.lost, 0);
}
