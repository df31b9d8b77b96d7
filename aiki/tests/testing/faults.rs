use std::time::Duration;

use aiki::prelude::*;
use aiki::testing::{Faults, TestEnv};

fn chain() -> (WorkflowVersion<u32, u32, Failure>, Task<u32, u32, Failure>) {
    let add = Task::new("add", |_: TaskContext, n: u32| async move {
        tokio::time::sleep(Duration::from_millis(50)).await;
        Ok::<_, Failure>(n + 1)
    });
    let part = add.clone();
    let chain = Workflow::new("chain").version("1", move |run: Run, n: u32| {
        let add = part.clone();
        async move {
            let mut n = n;
            for _ in 0..4 {
                n = add.start(&run, n).await?;
                run.sleep("pause", Duration::from_secs(30)).await;
            }
            Ok::<_, Failure>(n)
        }
    });
    (chain, add)
}

/// Runs ten runs under these faults; answers attempts in all and the virtual seconds that it took.
async fn under(faults: Option<Faults>) -> (usize, u64) {
    let (chain, add) = chain();
    let env = TestEnv::builder().workflow(&chain).workers(3).start().await.unwrap();
    if let Some(faults) = faults {
        env.faults(faults);
    }
    let before = env.now();
    let mut handles = Vec::new();
    for n in 0..10 {
        handles.push(env.start(&chain, n * 100).await.unwrap());
    }
    for (n, handle) in (0..).zip(&handles) {
        assert_eq!(handle.wait().await.unwrap(), n * 100 + 4);
    }
    env.assert_called_times(&add, 40);
    (env.attempts(&add), env.now().since(before).as_secs())
}

#[tokio::test]
async fn every_fault_shows_and_none_changes_the_result() {
    assert_eq!(under(None).await, (40, 120));
    let (attempts, seconds) = under(Some(Faults::seeded(1).duplicates(0.5))).await;
    assert_eq!((attempts, seconds), (40, 120), "duplicates cost nothing");
    let (attempts, seconds) = under(Some(Faults::seeded(2).late(0.5, Duration::from_secs(20)))).await;
    assert!(attempts == 40 && seconds > 130, "late: {attempts} attempts, {seconds} s");
    let (attempts, seconds) = under(Some(Faults::seeded(3).lost(0.3))).await;
    assert!(attempts == 40 && seconds > 120, "lost: {attempts} attempts, {seconds} s");
    let (attempts, _) = under(Some(Faults::seeded(4).stolen_leases(0.3))).await;
    assert!(attempts > 40, "stolen: {attempts} attempts");
    let (attempts, _) = under(Some(Faults::seeded(5).lost_answers(0.3))).await;
    assert_eq!(attempts, 40, "a report whose answer was lost is known by its number");
    let (attempts, _) = under(Some(Faults::seeded(6).broker_restarts(0.3))).await;
    assert_eq!(attempts, 40);
}

#[tokio::test]
async fn everything_at_once_still_ends_well() {
    for seed in 0..5 {
        under(Some(Faults::everything(seed))).await;
    }
}

#[tokio::test]
async fn a_broker_that_restarts_in_between_loses_nothing() {
    let (chain, add) = chain();
    let env = TestEnv::with([&chain]).await.unwrap();
    let handle = env.start(&chain, 0).await.unwrap();
    for _ in 0..3 {
        env.advance(Duration::from_secs(25)).await;
        env.restart_broker();
    }
    assert_eq!(handle.wait().await.unwrap(), 4);
    assert_eq!(env.attempts(&add), 4);
}

#[test]
fn the_text_that_a_failing_test_prints_says_how_to_repeat_it() {
    assert!(Faults::random().to_string().contains("AIKI_TEST_SEED="));
}
