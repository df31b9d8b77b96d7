use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aiki::prelude::*;
use aiki::run::export::RunExport;
use aiki::testing::{TestEnv, replay};

use super::time::DAY;

const PAID: Event<u64> = Event::new("paid");

fn task(name: &'static str) -> Task<u32, u32, Failure> {
    Task::new(name, |_: TaskContext, n: u32| async move { Ok::<_, Failure>(n + 1) })
}

/// Calls these tasks one after the other, each with what the one before returned; then waits for an event.
fn orders(tasks: &'static [&'static str], plus: u32) -> WorkflowVersion<u32, u32, Failure> {
    Workflow::new("orders")
        .version("1", move |run: Run, n: u32| async move {
            let began = run.now();
            let mut n = n;
            for name in tasks {
                n = task(name).start(&run, n).await?;
                run.sleep("pause", DAY).await;
            }
            run.event_within(&PAID, 3 * DAY).await.unwrap_err();
            assert!(run.now().since(began) >= DAY);
            Ok::<_, Failure>(n + plus)
        })
        .event(&PAID)
}

const AS_RECORDED: &[&str] = &["reserve", "charge", "ship"];

/// A run of [`AS_RECORDED`] after so many days, and at its end.
async fn recorded(days: u32) -> RunExport {
    let orders = orders(AS_RECORDED, 0);
    let env = TestEnv::with([&orders]).await.unwrap();
    let handle = env.start(&orders, 1).await.unwrap();
    env.advance(days * DAY + Duration::from_secs(60)).await;
    let export = handle.export().await.unwrap();
    RunExport::from_json(&export.to_json().unwrap()).unwrap()
}

#[tokio::test]
async fn unchanged_code_comes_to_the_recorded_end_without_running_a_task() {
    let replayed = replay(&orders(AS_RECORDED, 0), &recorded(30).await).unwrap();
    assert_eq!((replayed.ended, replayed.next), (true, None));
}

#[tokio::test]
async fn a_run_under_way_is_followed_as_far_as_it_is_recorded() {
    let replayed = replay(&orders(AS_RECORDED, 0), &recorded(1).await).unwrap();
    assert!(!replayed.ended);
    // What comes behind the record may be changed.
    replay(&orders(&["reserve", "charge", "send"], 9), &recorded(1).await).unwrap();
}

#[tokio::test]
async fn changed_code_is_told_where_it_leaves_the_record_in_the_workers_own_words() {
    let export = recorded(30).await;
    let divergence = replay(&orders(&["reserve", "charge-card", "ship"], 0), &export).unwrap_err();
    let text = divergence.to_string();
    assert!(
        text.contains("the workflow's code no longer follows its record: at ") && text.contains("replays.rs"),
        "{text}"
    );
    assert!(text.contains("calls task `charge-card`") && text.contains("Not asked for: task `charge`"), "{text}");
    let entry = format!("{:?}", export.history[divergence.entry()].entry);
    assert!(entry.contains("TaskOpened") && entry.contains("\"charge\""), "{entry}");
    assert!(text.contains(", of 2026-03-02T"), "{text}");
}

#[tokio::test]
async fn a_worker_would_say_the_same() {
    static CHANGED: AtomicBool = AtomicBool::new(false);
    let changing = Workflow::new("changing").version("1", |run: Run, n: u32| async move {
        let name = if CHANGED.load(Ordering::SeqCst) { "new" } else { "old" };
        let n = task(name).start(&run, n).await?;
        run.sleep("night", DAY).await;
        Ok::<_, Failure>(n)
    });
    let env = TestEnv::with([&changing]).await.unwrap();
    let handle = env.start(&changing, 1).await.unwrap();
    env.settle().await;
    let export = handle.export().await.unwrap();
    CHANGED.store(true, Ordering::SeqCst);
    let RunError::Failed(error) = handle.wait().await.unwrap_err() else { panic!("the run should fail") };
    assert_eq!(error.object().name, "NonDeterminismError");
    assert_eq!(replay(&changing, &export).unwrap_err().text(), error.object().message);
}

#[tokio::test]
async fn another_end_a_call_too_many_and_a_call_too_few_are_told_apart() {
    let export = recorded(30).await;
    let text = replay(&orders(AS_RECORDED, 5), &export).unwrap_err().to_string();
    assert!(text.contains("comes to another end:\n") && text.contains("- 4\n  + 9"), "{text}");
    let text = replay(&orders(&["reserve", "charge", "ship", "thank"], 0), &export).unwrap_err().to_string();
    assert!(text.contains("the run is completed on record, and the code goes on: task `thank` opened"), "{text}");
    let text = replay(&orders(&["reserve", "charge"], 1), &export).unwrap_err().to_string();
    assert!(text.contains("without asking for task `ship`, which is on record"), "{text}");
}
