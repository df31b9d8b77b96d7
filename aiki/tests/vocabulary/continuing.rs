use aiki::Event;
use aiki::prelude::*;

use super::House;

const ADD: Event<u64> = Event::new("add");

#[tokio::test(start_paused = true)]
async fn a_workflow_continues_as_new_and_takes_its_events_along() {
    let step = Task::new("step", |cx: TaskContext, n: u64| async move { Ok::<_, Failure>((n, cx.idempotency_key())) });
    let counter = Workflow::new("counter")
        .version("1", move |run: Run, (rounds, sum): (u64, u64)| {
            let step = step.clone();
            async move {
                assert!(run.history().entries < 70, "the history stays short: {:?}", run.history());
                let (seen, _) = step.start(&run, rounds).await?;
                assert_eq!(seen, rounds, "nothing of an earlier round is replayed");
                let sum = sum + run.event(&ADD).await;
                if rounds > 0 {
                    return run.continue_as_new((rounds - 1, sum)).await;
                }
                Ok::<_, Failure>(sum)
            }
        })
        .event(&ADD);
    let house = House::with(vec![counter.register()]).await;
    let handle = counter.start(&house.client, (100, 0)).reference_id("counter").await.unwrap();
    for n in 0..=50 {
        handle.send_event(&ADD, n).await.unwrap();
    }
    tokio::time::sleep(std::time::Duration::from_secs(60)).await;
    for n in 51..=100 {
        handle.send_event(&ADD, n).await.unwrap();
    }
    assert_eq!(handle.wait().await.unwrap(), (0..=100).sum::<u64>());
    let record = handle.record().await.unwrap();
    assert_eq!(record.tasks.len(), 1);
    assert_eq!(record.ordinals.tasks, 101, "tasks are never named twice");
    house.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_history_that_is_full_fails_the_run_with_the_remedy() {
    let step = Task::new("step", |_: TaskContext, n: u32| async move { Ok::<_, Failure>(n) });
    let endless = Workflow::new("endless").version("1", move |run: Run, (): ()| {
        let step = step.clone();
        async move {
            for n in 0.. {
                step.start(&run, n).await?;
            }
            Ok::<_, Failure>(())
        }
    });
    let house = House::configured(vec![endless.register()], |server| server.history_limit(200), |worker| worker).await;
    let handle = endless.start(&house.client, ()).await.unwrap();
    let error = handle.wait().await.unwrap_err().to_string();
    assert!(error.contains("limit is 200") && error.contains("continue as new"), "{error}");
    house.close().await;
}
