//! Tasks and workflows by attribute: the same as by hand, in fewer words.
#![cfg(all(feature = "macros", feature = "embedded"))]
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
#![allow(missing_docs, reason = "the types are public only because a handle is")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use aiki::prelude::*;
use aiki::{RegisteredWorkflow, VirtualClock};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Order {
    id: String,
    cents: u64,
}

#[derive(Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
pub enum PaymentError {
    #[error("declined")]
    Declined,
    #[error("the gateway is down")]
    Down,
}

#[derive(Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
pub enum OrderError {
    #[error(transparent)]
    Payment(#[from] TaskError<PaymentError>),
    #[error(transparent)]
    Number(#[from] TaskError<NoNumber>),
}

#[derive(Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[error("no number is left")]
pub struct NoNumber;

/// Charges a card; the gateway is down at first.
#[aiki::task(
    name = "charge-card",
    retry = exponential(3, "1s", max_delay = "30s", factor = 3),
    retry_if = |error| *error == PaymentError::Down
)]
pub async fn charge(cx: TaskContext, Order { cents, .. }: Order) -> Result<String, PaymentError> {
    if cents > 1000 {
        return Err(PaymentError::Declined);
    }
    if cx.attempt() < 3 {
        return Err(PaymentError::Down);
    }
    Ok(format!("receipt-{}", cx.attempt()))
}

const COUNT: Event<u64> = Event::new("count");

#[aiki::task(time_limit = "1s", heartbeat_timeout = "200ms")]
async fn endless() -> Result<(), NoNumber> {
    std::future::pending().await
}

#[aiki::workflow(version = "1", events = [COUNT])]
async fn limited(run: Run) -> Result<(u64, bool), OrderError> {
    let count = run.event(&COUNT).await;
    let timed_out = matches!(endless.start(&run, ()).await, Err(TaskError::TimedOut { .. }));
    Ok((count, timed_out))
}

#[aiki::task]
async fn next_number() -> Result<u64, NoNumber> {
    static NEXT: AtomicUsize = AtomicUsize::new(7);
    Ok(NEXT.fetch_add(1, Ordering::Relaxed) as u64)
}

#[aiki::workflow(name = "order-processing", version = "1.0.0")]
async fn order_processing(run: Run, order: Order) -> Result<(String, u64), OrderError> {
    let receipt = charge.start(&run, order).await?;
    run.sleep("cool-off", Duration::from_secs(3600)).await;
    Ok((receipt, next_number.start(&run, ()).await?))
}

fn an_order(cents: u64) -> Order {
    Order { id: "order-42".into(), cents }
}

/// The workflow again, without macros.
fn by_hand() -> WorkflowVersion<Order, (String, u64), OrderError> {
    let charging = Task::new("charge-card", charge_by_hand)
        .retry(RetryStrategy::exponential(3, Duration::from_secs(1)).factor(3).max_delay(Duration::from_secs(30)));
    let number = Task::new("next-number", |_: TaskContext, (): ()| async { Ok::<u64, NoNumber>(8) });
    Workflow::new("order-processing").version("1.0.0", move |run: Run, order: Order| {
        let (charging, number) = (charging.clone(), number.clone());
        async move {
            let receipt = charging.start(&run, order).await?;
            run.sleep("cool-off", Duration::from_secs(3600)).await;
            Ok((receipt, number.start(&run, ()).await?))
        }
    })
}

async fn charge_by_hand(_: TaskContext, _: Order) -> Result<String, PaymentError> {
    Err(PaymentError::Declined)
}

/// A server and workers in virtual time.
struct House {
    server: Server,
    clock: Arc<VirtualClock>,
}

impl House {
    async fn new() -> Self {
        let clock = Arc::new(VirtualClock::default());
        Self { server: Server::builder().clock(clock.clone()).start().await.unwrap(), clock }
    }

    fn serve(&self, workflow: impl Into<RegisteredWorkflow>) -> (Worker, Running) {
        let worker = Worker::builder(self.server.client())
            .subscriber(self.server.subscriber())
            .clock(self.clock.clone())
            .heartbeat_on_runtime(true)
            .build()
            .unwrap();
        worker.workflow_registry().add(workflow);
        let running = worker.clone();
        (worker, tokio::spawn(async move { running.start().await }))
    }
}

type Running = tokio::task::JoinHandle<Result<aiki::StopReport, aiki::WorkerError>>;

async fn stop((worker, running): (Worker, Running)) {
    worker.stop().await;
    running.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_workflow_by_attribute_runs_sleeps_and_retries() {
    let house = House::new().await;
    let worker = house.serve(order_processing);

    let handle = order_processing.start(&house.server.client(), an_order(100)).reference_id("order-42").await.unwrap();
    assert_eq!(handle.wait().await.unwrap(), ("receipt-3".to_owned(), 7));
    let handle = order_processing.start(&house.server.client(), an_order(2000)).await.unwrap();
    match handle.wait().await {
        Err(RunError::Failed(OrderError::Payment(TaskError::Failed { error: PaymentError::Declined, task }))) => {
            assert_eq!(task.attempts, 1, "`retry_if` says that a declined card is final");
        }
        other => panic!("{other:?}"),
    }
    stop(worker).await;
    house.server.close().await;
}

#[tokio::test(start_paused = true)]
async fn events_and_time_limits_are_given_by_attribute() {
    let house = House::new().await;
    let worker = house.serve(limited);
    let handle = limited.start(&house.server.client(), ()).await.unwrap();
    handle.send_event(&COUNT, 3).await.unwrap();
    assert_eq!(handle.wait().await.unwrap(), (3, true));
    stop(worker).await;
    house.server.close().await;
}

#[tokio::test(start_paused = true)]
async fn code_by_hand_goes_on_with_the_record_of_code_by_attribute() {
    let house = House::new().await;
    let worker = house.serve(order_processing);
    let handle = order_processing.start(&house.server.client(), an_order(100)).await.unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    stop(worker).await;

    let worker = house.serve(by_hand());
    assert_eq!(handle.wait().await.unwrap(), ("receipt-3".to_owned(), 8));
    stop(worker).await;
    house.server.close().await;
}

#[test]
fn a_handle_is_what_would_be_written_by_hand() {
    let strategy = RetryStrategy::exponential(3, Duration::from_secs(1)).factor(3).max_delay(Duration::from_secs(30));
    assert_eq!((charge.name(), charge.retry_strategy()), ("charge-card", &strategy));
    assert_eq!((next_number.name(), next_number.retry_strategy()), ("next-number", &RetryStrategy::Never));
    assert_eq!(order_processing.key(), by_hand().key());
    assert_eq!(format!("{charge:?}"), format!("{:?}", *charge));
}

#[tokio::test]
async fn a_task_is_called_without_a_run() {
    let cx = |attempt| TaskContext::detached(RunId::from_bits(0).task(0), attempt);
    assert_eq!(charge.call(cx(1), an_order(100)).await, Err(PaymentError::Down));
    assert_eq!(charge.call(cx(3), an_order(100)).await, Ok("receipt-3".to_owned()));
}

#[test]
#[allow(clippy::needless_borrows_for_generic_args, reason = "a habit from definitions by hand")]
fn a_handle_goes_where_the_definition_goes() {
    fn borrowed<I, O, E>(task: &Task<I, O, E>) -> &str {
        task.name()
    }
    fn owned<I, O, E>(task: impl Into<Task<I, O, E>>) -> String {
        task.into().name().to_owned()
    }
    fn registered(workflow: impl Into<RegisteredWorkflow>) -> RetryStrategy {
        workflow.into().retry().clone()
    }
    fn version<I, O, E>(workflow: impl Into<WorkflowVersion<I, O, E>>) -> WorkflowKey {
        workflow.into().key().clone()
    }
    assert_eq!(borrowed(&charge), owned(charge));
    assert_eq!(registered(patient::walk), RetryStrategy::fixed(5, Duration::from_millis(90_000)));
    assert_eq!(registered(&patient::walk), registered(patient::walk));
    assert_eq!(version(order_processing), WorkflowKey::user("order-processing", "1.0.0"));
}

mod patient {
    use super::*;

    /// A workflow that knows its own handle.
    #[aiki::workflow(version = "2", retry = fixed(5, "1m30s"))]
    pub(super) async fn walk(run: Run) -> Result<String, Failure> {
        Ok(format!("{}-{}", walk.key(), run.attempt()))
    }
}

#[tokio::test(start_paused = true)]
async fn a_workflow_finds_its_own_handle() {
    let house = House::new().await;
    let worker = house.serve(patient::walk);
    let handle = patient::walk.start(&house.server.client(), ()).await.unwrap();
    assert_eq!(handle.wait().await.unwrap(), "walk@2-1");
    stop(worker).await;
    house.server.close().await;
}

/// Nothing of these may disturb what an attribute makes.
mod hostile {
    #![deny(warnings, missing_docs, unreachable_pub, nonstandard_style, unused, clippy::all, clippy::unwrap_used)]
    #![allow(dead_code, reason = "they are only in the way")]
    #![allow(non_camel_case_types, reason = "as above")]

    /// In the way.
    pub(super) struct Task;
    struct Workflow;
    struct RetryStrategy;
    struct Option;
    struct Some;
    struct Ok;
    struct String;
    struct Box;
    struct LazyLock;
    struct Duration;
    struct u64;
    trait Clone {}
    trait From {}
    trait Deref {}
    trait Debug {}
    mod core {}
    mod std {}
    mod aiki {}
    use ::aiki as renamed;
    use ::aiki::prelude::{Failure as Input, TaskContext};

    type Result<T> = ::std::result::Result<T, Input>;
    type CountResult = Result<u32>;

    const SLOW: renamed::RetryStrategy = renamed::RetryStrategy::never();

    fn slow() -> renamed::RetryStrategy {
        SLOW.clone()
    }

    #[renamed::task(crate = renamed, retry = { slow() }, retry_if = |_| true)]
    async fn with_everything(cx: TaskContext, mut count: u32) -> Result<u32> {
        count += u32::try_from(cx.attempt()).unwrap_or_default();
        ::std::result::Result::Ok(count)
    }

    /// Documented.
    #[renamed::task(retry = jittered(2, "5ms"))]
    #[allow(unused_variables)]
    pub(super) async fn r#loop(_: TaskContext) -> CountResult {
        let unused = with_everything.name();
        ::std::result::Result::Ok(5)
    }

    #[renamed::task(name = "a/b.c_d-e")]
    #[deprecated]
    async fn old() -> Result<u32> {
        ::std::result::Result::Ok(1)
    }

    #[renamed::workflow(version = "1.0.0", retry = SLOW)]
    #[expect(unused_variables)]
    async fn start(run: renamed::Run, (left, right): (u32, u32)) -> Result<u32> {
        ::std::result::Result::Ok(r#loop.start(&run, ()).await?)
    }

    #[renamed::task]
    #[cfg(any())]
    async fn twice() -> Result<u32> {
        gone()
    }

    #[renamed::task(name = "the-second")]
    #[cfg(not(any()))]
    async fn twice() -> Result<u32> {
        ::std::result::Result::Ok(2)
    }

    #[test]
    #[expect(deprecated)]
    fn names_attributes_and_lints_are_kept() {
        assert_eq!([r#loop.name(), with_everything.name()], ["loop", "with-everything"]);
        assert_eq!(old.name(), "a/b.c_d-e");
        assert_eq!(start.key().to_string(), "start@1.0.0");
        assert_eq!(twice.name(), "the-second");
    }
}

#[tokio::test]
async fn a_task_may_be_defined_inside_of_a_function() {
    #[aiki::task]
    async fn inside(text: String) -> Result<usize, Failure> {
        Ok(text.len())
    }
    let cx = TaskContext::detached(RunId::from_bits(0).task(0), 1);
    assert_eq!(inside.call(cx, "four".to_owned()).await, Ok(4));
}

const PRICE: Event<u64> = Event::new("price");

#[aiki::workflow(version = "1")]
async fn forgetful(run: Run) -> Result<u64, Failure> {
    Ok(run.event(&PRICE).await)
}

#[tokio::test]
async fn an_event_that_the_attribute_does_not_name_is_refused_with_the_words_of_the_attribute() {
    let server = Server::in_memory().await.unwrap();
    let worker = Worker::builder(server.client()).subscriber(server.subscriber()).build().unwrap();
    worker.workflow_registry().add(forgetful);
    let running = worker.spawn();
    let handle = forgetful.start(&server.client(), ()).await.unwrap();
    let sent = handle.send_event(&PRICE, 7).await.unwrap_err().to_string();
    assert!(sent.contains("`events = [...]` to its `#[aiki::workflow]`"), "{sent}");
    let waited = handle.wait().await.unwrap_err().to_string();
    assert!(waited.contains("`events = [...]` to its `#[aiki::workflow]`"), "{waited}");
    running.stop().await.unwrap();
    server.close().await;
}
