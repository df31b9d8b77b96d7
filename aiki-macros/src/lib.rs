//! Attributes that turn an `async fn` into a task or a workflow of Aiki. Programs use them as `#[aiki::task]` and
//! `#[aiki::workflow]`; the crate `aiki` re-exports them (feature `macros`, on by default).
//!
//! They are sugar over `Task::new` and `Workflow::new(..).version(..)`, and nothing more: a definition by attribute
//! and one by hand have the same names, the same types and the same record.
//!
//! ```
//! use aiki::prelude::*;
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Clone, Serialize, Deserialize)]
//! pub struct Order {
//!     id: String,
//!     cents: u64,
//! }
//!
//! #[derive(Debug, Serialize, Deserialize, thiserror::Error)]
//! pub enum PaymentError {
//!     #[error("declined")]
//!     Declined,
//!     #[error("the gateway is down")]
//!     Down,
//! }
//!
//! /// Charges the card of an order.
//! #[aiki::task(
//!     name = "charge-card",
//!     retry = exponential(3, "1s", max_delay = "30s"),
//!     retry_if = |error| matches!(error, PaymentError::Down)
//! )]
//! pub async fn charge_card(cx: TaskContext, order: Order) -> Result<String, PaymentError> {
//!     if order.cents > 100_000 {
//!         return Err(PaymentError::Declined);
//!     }
//!     Ok(format!("receipt-{}", cx.idempotency_key()))
//! }
//!
//! #[aiki::workflow(version = "1.0.0")]
//! pub async fn order_processing(run: Run, order: Order) -> Result<String, TaskError<PaymentError>> {
//!     let receipt = charge_card.start(&run, order).await?;
//!     run.sleep("cool-off", std::time::Duration::from_secs(60)).await;
//!     Ok(receipt)
//! }
//!
//! // The names stand for the definitions: a worker serves them, a client starts them.
//! fn serve(worker: &Worker) {
//!     worker.workflow_registry().add(order_processing);
//! }
//!
//! async fn start(client: &Client, order: Order) -> Result<RunHandle<String, TaskError<PaymentError>>, StartError> {
//!     order_processing.start(client, order).reference_id("order-42").await
//! }
//!
//! // A task's own code is called without a run, for example in a unit test.
//! #[tokio::main(flavor = "current_thread")]
//! async fn main() {
//!     assert_eq!(charge_card.name(), "charge-card");
//!     assert_eq!(order_processing.key().to_string(), "order-processing@1.0.0");
//!
//!     let cx = TaskContext::detached(RunId::from_bits(0).task(0), 1);
//!     let dear = Order { id: "order-43".into(), cents: 200_000 };
//!     assert!(matches!(charge_card.call(cx, dear).await, Err(PaymentError::Declined)));
//! }
//! ```

mod duration;
mod expand;
mod function;
mod name;
mod options;
mod retry;

use proc_macro::TokenStream;

use function::Kind;

/// Turns an `async fn` into a task: a handle of the function's name that derefs to `aiki::Task`.
///
/// ```
/// use aiki::prelude::*;
///
/// #[aiki::task(retry = fixed(3, "200ms"))]
/// async fn send_mail(cx: TaskContext, address: String) -> Result<(), Failure> {
///     println!("to {address}: {}", cx.idempotency_key());
///     Ok(())
/// }
///
/// #[aiki::workflow(version = "1.0.0")]
/// async fn welcome(run: Run, address: String) -> Result<(), Failure> {
///     Ok(send_mail.start(&run, address).await?)
/// }
/// # let _ = welcome;
/// ```
///
/// The function takes the context (`TaskContext`, written so) or not, and one input or none; without one the input is
/// `()`. It returns a `Result`, under that name or an alias that ends so. Inputs and outputs derive `Serialize` and
/// `Deserialize` and are as visible as the function.
///
/// | option | means | default |
/// |---|---|---|
/// | `name = "charge-card"` | the name under which results are recorded | the function's, with `-` for `_` |
/// | `retry = ...` | how failed attempts are repeated, see below | `never` |
/// | `retry_if = ..` | only errors for which this holds are retried: a closure or a path, as in `Task::retry_if` | all |
/// | `time_limit = "30s"` | how long an attempt may take, as in `Task::time_limit` | no limit |
/// | `heartbeat_timeout = "5s"` | how long an attempt may be silent, as in `Task::heartbeat_timeout` | no limit |
/// | `crate = my_aiki` | the path of the crate `aiki`, where it has another name | `::aiki` |
///
/// | `retry` | means |
/// |---|---|
/// | `never` | the first failure is final |
/// | `fixed(3, "200ms")` | 3 attempts in total, 200 ms apart |
/// | `exponential(3, "1s")` | the delay doubles; `factor = 3` and `max_delay = "30s"` may follow |
/// | `jittered(3, "1s")` | the same, each delay being a random part of it |
/// | `MY_STRATEGY`, `path::to()`, `{ .. }` | any expression of type `RetryStrategy`; it is evaluated once |
///
/// Durations are whole numbers with the units `d`, `h`, `m`, `s`, `ms`, such as `"1m30s"`.
///
/// # The handle
///
/// It is a unit struct that is `Copy`; what it derefs to is made at its first use. It also becomes a `Task` by `From`.
///
/// * The function cannot be called as one: `charge_card.call(cx, order)` runs its body, without retries.
/// * A local variable or an argument cannot have the same name, because a pattern of that name means the handle:
///   write `let receipt = charge_card.start(..)`, not `let charge_card = ..`.
/// * A module of the same name cannot stand beside it.
/// * It captures nothing. For a task that needs a connection or a client, hand a closure to `Task::new`.
///
/// Documentation, visibility, `#[cfg]`, `#[deprecated]` and lint levels of the function belong to the handle; all other
/// attributes stay with the function, and so `#[tracing::instrument]` works.
#[proc_macro_attribute]
pub fn task(attribute: TokenStream, item: TokenStream) -> TokenStream {
    expand::expand(Kind::Task, attribute.into(), item.into()).into()
}

/// Turns an `async fn` into one version of a workflow: a handle of the function's name that derefs to
/// `aiki::WorkflowVersion`.
///
/// ```
/// use std::time::Duration;
/// use aiki::prelude::*;
///
/// #[aiki::workflow(name = "reminder", version = "1.0.0", retry = exponential(3, "1m"))]
/// async fn reminder(run: Run, text: String) -> Result<String, Failure> {
///     run.sleep("a day", Duration::from_secs(86_400)).await;
///     Ok(text)
/// }
///
/// async fn remind(worker: Worker, client: Client) -> Result<(), aiki::Error> {
///     worker.workflow_registry().add(reminder);
///     reminder.start(&client, "water the plants".to_owned()).await?;
///     Ok(())
/// }
/// ```
///
/// The function takes its `run: Run`, and one input or none. Steps that several workflows share are plain functions
/// that take a `&Run`.
///
/// | option | means | default |
/// |---|---|---|
/// | `version = "1.0.0"` | the version's name; runs stay with the version they began with | none: it has to be given |
/// | `name = "order-processing"` | the workflow's name | the function's, with `-` for `_` |
/// | `retry = ..` | how a run is repeated as a whole, in the forms of [`macro@task`] | `never` |
/// | `events = [PAID, NOTE]` | the events that it takes, as in `WorkflowVersion::event` | none |
/// | `crate = my_aiki` | the path of the crate `aiki`, where it has another name | `::aiki` |
///
/// Two versions of one workflow are two functions with the same `name`.
///
/// What is said about the handle of a [task](macro@task) holds here as well, but for `call`: a workflow needs a run, so
/// it runs only on a worker.
#[proc_macro_attribute]
pub fn workflow(attribute: TokenStream, item: TokenStream) -> TokenStream {
    expand::expand(Kind::Workflow, attribute.into(), item.into()).into()
}
