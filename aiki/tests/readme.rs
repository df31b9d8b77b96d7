//! The tests in the README.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::time::Duration;

use aiki::prelude::*;
use aiki::testing::{TestEnv, crash_sweep};

const DAY: Duration = Duration::from_secs(86_400);

#[aiki::task(name = "charge-card", retry = exponential(3, "1h"))]
async fn charge_card(cx: TaskContext, cents: u64) -> Result<String, Failure> {
    Ok(format!("{cents} cents, receipt-{}", cx.idempotency_key()))
}

#[aiki::workflow(name = "order-processing", version = "1.0.0")]
async fn order_processing(run: Run, cents: u64) -> Result<String, Failure> {
    run.sleep("cool-off", 14 * DAY).await;
    Ok(charge_card.start(&run, cents).await?)
}

#[tokio::test]
async fn an_order_is_charged_once_after_its_cool_off() {
    let env = TestEnv::with([order_processing]).await.unwrap();
    env.mock(&charge_card).fails_times(2, Failure::new("Down", "try again")).returns("receipt-1".into());
    let order = env.start(&order_processing, 4_200).await.unwrap();

    env.advance(13 * DAY).await;
    env.assert_not_called(&charge_card);
    assert_eq!(order.wait().await.unwrap(), "receipt-1");
    env.assert_called_once_with(&charge_card, &4_200);
    assert_eq!(env.attempts(&charge_card), 3);
}

#[tokio::test]
async fn an_order_ends_the_same_wherever_its_worker_dies() {
    crash_sweep(&order_processing, 4_200).await.unwrap();
}

#[test]
fn the_readme_shows_these_very_tests() {
    let shown = include_str!("../../README.md").split("```rust,ignore\n").nth(1).unwrap().split("```").next().unwrap();
    assert!(include_str!("readme.rs").contains(shown), "README.md and tests/readme.rs differ: make them the same");
}
