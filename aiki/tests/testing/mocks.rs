use std::time::Duration;

use aiki::prelude::*;
use aiki::testing::TestEnv;
use serde::{Deserialize, Serialize};

use super::said;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Order {
    id: String,
    cents: u64,
}

#[derive(Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
enum PaymentError {
    #[error("declined")]
    Declined,
    #[error("the gateway is down")]
    Down,
}

#[aiki::task(name = "reserve")]
async fn reserve(order: Order) -> Result<u32, Failure> {
    Ok(order.id.len() as u32)
}

#[aiki::task(name = "charge", retry = fixed(3, "1h"), retry_if = |error| matches!(error, PaymentError::Down))]
async fn charge(_: Order) -> Result<String, PaymentError> {
    panic!("the gateway is not there in a test")
}

#[aiki::workflow(name = "orders", version = "1")]
async fn orders(run: Run, order: Order) -> Result<String, TaskError<PaymentError>> {
    if reserve.start(&run, order.clone()).await.is_err() {
        return Ok("sold out".to_owned());
    }
    charge.start(&run, order).await
}

fn order(cents: u64) -> Order {
    Order { id: "o-1".into(), cents }
}

#[tokio::test]
async fn a_mock_stands_in_for_one_task_and_the_others_run_for_real() {
    let env = TestEnv::with([orders]).await.unwrap();
    env.mock(&charge).returns("receipt".to_owned());
    assert_eq!(env.run_to_end(&orders, order(700)).await.unwrap(), "receipt");
    env.assert_called_once_with(&charge, &order(700));
    env.assert_called_times(&reserve, 1);
    env.assert_order([reserve.name(), charge.name()]);
    assert_eq!(env.calls(&charge), [order(700)]);
    let runs = env.task_runs();
    assert_eq!((runs[0].mocked, runs[1].mocked), (false, true));
    assert_eq!(runs[0].result.clone().unwrap().unwrap().unwrap().as_str(), "3");
}

#[tokio::test]
async fn a_mock_fails_as_often_as_it_is_told_and_its_retries_cost_no_time() {
    let env = TestEnv::with([orders]).await.unwrap();
    env.mock(&charge).fails_times(2, PaymentError::Down).returns("late".to_owned());
    let before = env.now();
    assert_eq!(env.run_to_end(&orders, order(1)).await.unwrap(), "late");
    assert_eq!(env.now().since(before).as_secs(), 7_200);
    assert_eq!((env.calls(&charge).len(), env.attempts(&charge)), (1, 3));
    // What the task says of its errors holds for its mock.
    env.mock(&charge).fails(PaymentError::Declined);
    let error = env.run_to_end(&orders, order(2)).await.unwrap_err();
    let RunError::Failed(TaskError::Failed { error, task }) = error else { panic!("{error}") };
    assert_eq!((error, task.attempts), (PaymentError::Declined, 1));
}

#[tokio::test]
async fn a_mock_answers_by_its_input_call_by_call_or_like_a_body() {
    let env = TestEnv::with([orders]).await.unwrap();
    env.mock(&charge).with(|order| match order.cents {
        0 => Err(PaymentError::Declined),
        cents => Ok(format!("paid {cents}")),
    });
    assert_eq!(env.run_to_end(&orders, order(5)).await.unwrap(), "paid 5");
    assert!(env.run_to_end(&orders, order(0)).await.is_err());

    env.mock(&charge).returns_each(["first".to_owned(), "second".to_owned()]);
    assert_eq!(env.run_to_end(&orders, order(1)).await.unwrap(), "first");
    assert_eq!(env.run_to_end(&orders, order(1)).await.unwrap(), "second");
    let error = env.run_to_end(&orders, order(1)).await.unwrap_err().to_string();
    assert!(error.contains("was given 2 values") && error.contains("one more call"), "{error}");

    env.mock(&charge).takes(Duration::from_secs(90)).with_body(|cx, _| async move { Ok(cx.idempotency_key()) });
    let before = env.now();
    assert_eq!(env.run_to_end(&orders, order(1)).await.unwrap().len(), 26);
    assert_eq!(env.now().since(before).as_secs(), 90);

    env.mock(&charge);
    let error = env.run_to_end(&orders, order(1)).await.unwrap_err().to_string();
    assert!(error.contains("does not know what to answer: add `.returns(..)`"), "{error}");
    env.unmock(&charge);
    let error = env.run_to_end(&orders, order(1)).await.unwrap_err().to_string();
    assert!(error.contains("the gateway is not there"), "{error}");
}

#[tokio::test]
async fn a_wrong_input_is_shown_line_by_line() {
    let env = TestEnv::with([orders]).await.unwrap();
    env.mock(&charge).returns(String::new());
    env.run_to_end(&orders, order(700)).await.unwrap();
    let text = said(|| env.assert_called_once_with(&charge, &order(7)));
    assert!(text.contains("task `charge` was called with another input"), "{text}");
    assert!(text.contains("  -   \"cents\": 7,\n  +   \"cents\": 700,\n"), "{text}");
}

#[tokio::test]
async fn a_wrong_count_or_order_is_told_with_the_calls_that_were_made() {
    let env = TestEnv::with([orders]).await.unwrap();
    env.mock(&reserve).fails(Failure::non_retryable("SoldOut", "sold out"));
    env.run_to_end(&orders, order(1)).await.unwrap();
    env.assert_not_called(&charge);
    let text = said(|| env.assert_called_once_with(&charge, &order(1)));
    assert!(text.contains("was called never, not once; tasks that were called: reserve"), "{text}");
    env.run_to_end(&orders, order(2)).await.unwrap();
    let text = said(|| env.assert_called_times(&reserve, 1));
    assert!(text.contains("called 2 times, not once:\n  at ") && text.contains("\"cents\":2"), "{text}");
    let text = said(|| env.assert_order([charge.name(), reserve.name()]));
    assert!(text.contains("task `charge` was not called in its turn"), "{text}");
    let text = said(|| env.assert_called_with(&reserve, &order(3)));
    assert!(text.contains("but 2 times"), "{text}");
}
