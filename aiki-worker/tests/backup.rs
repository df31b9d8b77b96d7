//! The transport goes away and comes back; nobody restarts anything. All in virtual time.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aiki_core::{Client, Failure, Run, RunHandle, Task, TaskContext, Workflow, WorkflowVersion};
use aiki_runtime::{SeededEntropy, VirtualClock};
use aiki_server::Server;
use aiki_worker::{Worker, WorkerBuilder, WorkerPhase};
use common::breakable::Breakable;
use common::faulty::Faulty;
use common::logs::Logs;
use common::{start, until};
use tokio::time::{Instant, sleep};

const SECOND: Duration = Duration::from_secs(1);

struct House {
    client: Client,
    queue: Breakable,
    clock: Arc<VirtualClock>,
    /// How often the task of each run was executed.
    executed: Arc<Mutex<BTreeMap<u64, u32>>>,
}

impl House {
    async fn new() -> Self {
        let (clock, queue) = (Arc::new(VirtualClock::default()), Breakable::default());
        let server = Server::builder().clock(clock.clone()).publisher(Arc::new(queue.clone())).start().await.unwrap();
        Self { client: server.client(), queue, clock, executed: Arc::default() }
    }

    fn builder(&self, client: Client) -> WorkerBuilder {
        Worker::builder(client)
            .id("w")
            .max_concurrent_workflow_runs(4)
            .clock(self.clock.clone())
            .entropy(Arc::new(SeededEntropy::new(3)))
            .heartbeat_on_runtime(true)
            .subscriber(self.queue.clone())
    }

    fn start(&self) -> Worker {
        self.start_for(self.client.clone())
    }

    fn start_for(&self, client: Client) -> Worker {
        let worker = self.builder(client).build().unwrap();
        worker.workflow_registry().add(self.work());
        start(&worker);
        worker
    }

    /// One task that counts itself and lasts so many milliseconds.
    fn work(&self) -> WorkflowVersion<(u64, u64), u64> {
        let executed = self.executed.clone();
        let task = Task::new("work", move |_: TaskContext, (number, lasts): (u64, u64)| {
            *executed.lock().unwrap().entry(number).or_default() += 1;
            async move {
                sleep(Duration::from_millis(lasts)).await;
                Ok::<_, Failure>(number)
            }
        });
        Workflow::new("work").version("1.0.0", move |run: Run, input: (u64, u64)| {
            let task = task.clone();
            async move { Ok::<_, Failure>(task.start(&run, input).await?) }
        })
    }

    async fn run(&self, number: u64, lasts: u64) -> RunHandle<u64, Failure> {
        self.work().start(&self.client, (number, lasts)).await.unwrap()
    }

    /// All of these were executed, none of them twice.
    fn each_once(&self, count: u64) {
        let expected: BTreeMap<u64, u32> = (0..count).map(|number| (number, 1)).collect();
        assert_eq!(*self.executed.lock().unwrap(), expected);
    }
}

async fn took<T>(future: impl Future<Output = T>) -> (T, Duration) {
    let began = Instant::now();
    (future.await, began.elapsed())
}

#[tokio::test(start_paused = true)]
async fn a_transport_that_is_away_at_the_start_keeps_no_run_waiting() {
    let logs = Logs::capture();
    let house = House::new().await;
    house.queue.break_down();
    let worker = house.start();
    until("the worker is at work", || worker.status().phase == WorkerPhase::Running).await;
    let (answer, lasted) = took(async { house.run(0, 10).await.wait().await }).await;
    assert_eq!(answer.unwrap(), 0);
    assert!(lasted < SECOND * 2, "{lasted:?}");
    assert_eq!(house.queue.delivered(), 0);

    house.queue.come_back();
    sleep(SECOND * 10).await;
    // The first run may be announced late; that is a hint without consequences.
    let before = house.queue.delivered();
    let (answer, lasted) = took(async { house.run(1, 10).await.wait().await }).await;
    assert_eq!(answer.unwrap(), 1);
    assert!(lasted < Duration::from_millis(100), "it does not come by asking once a second: {lasted:?}");
    assert_eq!(house.queue.delivered(), before + 1);
    house.each_once(2);
    assert_eq!(logs.count("claimed straight from the server"), 1, "{}", logs.text());
    assert_eq!(logs.count("the subscriber answers again"), 1, "{}", logs.text());
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_transport_that_goes_away_and_comes_back_loses_nothing_and_repeats_nothing() {
    let house = House::new().await;
    let worker = house.start();
    let mut handles = Vec::new();
    // 300 runs in a minute, of up to 7 s each: some are held, some queued, some half done at each moment.
    for number in 0..300 {
        match number {
            60 | 180 => house.queue.break_down(),
            140 | 220 => house.queue.come_back(),
            _ => {}
        }
        let lasts = if number % 20 == 0 { 7_000 } else { number % 7 * 100 };
        handles.push(house.run(number, lasts).await);
        sleep(Duration::from_millis(200)).await;
    }
    for (number, handle) in (0..).zip(&handles) {
        assert_eq!(handle.wait().await.unwrap(), number);
    }
    house.each_once(300);
    let delivered = house.queue.delivered();
    assert!((100..300).contains(&delivered), "both ways were used: {delivered}");
    // What the transport held when it went away comes again and is settled there.
    until("nothing is left in the queue", || house.queue.queue().held() + house.queue.queue().depth() == 0).await;
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_a_transport_takes_with_it_is_claimed_from_the_server() {
    let house = House::new().await;
    let mut handles = Vec::new();
    for number in 0..20 {
        handles.push(house.run(number, 100).await);
    }
    until("all are announced", || house.queue.queue().depth() == 20).await;
    house.queue.lose_everything();
    let worker = house.start();
    let (answers, lasted) = took(futures::future::join_all(handles.iter().map(RunHandle::wait))).await;
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    assert!(lasted < SECOND * 5, "{lasted:?}");
    house.each_once(20);
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_handler_goes_on_while_its_transport_is_away() {
    let house = House::new().await;
    let worker = house.start();
    let long = house.run(0, 200_000).await;
    until("it is taken", || worker.status().active.len() == 1).await;
    house.queue.break_down();
    sleep(SECOND * 150).await;
    house.queue.come_back();
    assert_eq!(long.wait().await.unwrap(), 0);
    house.each_once(1);
    until("it is settled", || house.queue.queue().held() == 0).await;
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn with_both_away_questions_become_rare_and_the_first_one_back_serves() {
    for transport_first in [true, false] {
        let house = House::new().await;
        let (client, faults) = Faulty::wrap(&house.client);
        let worker = house.start_for(client);
        until("the worker is at work", || worker.status().phase == WorkerPhase::Running).await;
        house.queue.break_down();
        faults.down.store(true, Ordering::SeqCst);
        let handle = house.run(0, 10).await;
        sleep(SECOND * 600).await;
        let asked = faults.ready_claims.load(Ordering::SeqCst);
        assert!((10..100).contains(&asked), "{asked} questions in ten minutes");
        // The server has to be there for either way; what differs is who tells of the run.
        faults.down.store(false, Ordering::SeqCst);
        if transport_first {
            house.queue.come_back();
        }
        let (answer, lasted) = took(handle.wait()).await;
        assert_eq!(answer.unwrap(), 0);
        assert!(lasted < SECOND * 40, "{lasted:?}");
        house.each_once(1);
        // A success of the transport lets the backup begin anew.
        house.queue.come_back();
        sleep(SECOND * 30).await;
        house.queue.break_down();
        let (answer, lasted) = took(async { house.run(1, 10).await.wait().await }).await;
        assert_eq!(answer.unwrap(), 1);
        assert!(lasted < SECOND * 3, "{lasted:?}");
        worker.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn while_the_transport_is_well_the_server_is_never_asked_for_ready_runs() {
    let house = House::new().await;
    let (client, faults) = Faulty::wrap(&house.client);
    let worker = house.start_for(client);
    for number in 0..10 {
        house.run(number, 10).await.wait().await.unwrap();
        sleep(SECOND * 30).await;
    }
    assert_eq!(faults.ready_claims.load(Ordering::SeqCst), 0);
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_stop_while_the_transport_is_away_gives_back_what_came_through_the_backup() {
    let house = House::new().await;
    house.queue.break_down();
    let worker = house.start();
    let handle = house.run(0, 3_600_000).await;
    until("it is taken", || worker.status().active.len() == 1).await;
    let (report, lasted) = took(worker.stop()).await;
    assert_eq!(report.handed_back, [handle.id()]);
    assert!(lasted < SECOND * 7, "{lasted:?}");
}

#[tokio::test(start_paused = true)]
async fn without_a_backup_runs_wait_for_the_transport() {
    let house = House::new().await;
    house.queue.break_down();
    let worker = house.builder(house.client.clone()).backup_subscriber(false).build().unwrap();
    worker.workflow_registry().add(house.work());
    start(&worker);
    let handle = house.run(0, 10).await;
    sleep(SECOND * 60).await;
    assert_eq!(house.executed.lock().unwrap().len(), 0);
    house.queue.come_back();
    assert_eq!(handle.wait().await.unwrap(), 0);
    worker.stop().await;
}
