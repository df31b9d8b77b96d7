use std::time::Duration;

use aiki::prelude::*;
use aiki::{ChildError, RunState};
use futures::future::join_all;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::{HOUR, House, until};

#[derive(Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[error("{0} is odd")]
struct Odd(u32);

/// Halves an even number, after a nap.
fn half() -> WorkflowVersion<u32, u32, Odd> {
    Workflow::new("half").version("1", |run: Run, n: u32| async move {
        run.sleep("nap", Duration::from_secs(60)).await;
        if n % 2 == 1 { Err(Odd(n)) } else { Ok(n / 2) }
    })
}

#[tokio::test(start_paused = true)]
async fn a_hundred_children_are_gathered_and_twins_stay_apart() {
    let half = half();
    let part = half.clone();
    let all = Workflow::new("all").version("1", move |run: Run, n: u32| {
        let half = part.clone();
        async move {
            let children: Vec<_> = (0..n).map(|n| half.start_child(&run, n / 4 * 4)).collect();
            let halves = join_all(children.iter().map(|child| child.wait())).await;
            halves.into_iter().sum::<Result<u32, _>>().map_err(Failure::from)
        }
    });
    let house = House::with(vec![half.register(), all.register()]).await;
    let handle = all.start(&house.client, 100).await.unwrap();
    assert_eq!(handle.wait().await.unwrap(), (0..100).map(|n| n / 4 * 2).sum::<u32>());
    let record = handle.record().await.unwrap();
    assert_eq!(record.children.len(), 100);
    let runs: std::collections::BTreeSet<_> = record.children.iter().map(|child| child.run.unwrap()).collect();
    assert_eq!(runs.len(), 100, "every child is a run of its own");
    house.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_childs_own_error_arrives_unchanged_and_a_wait_may_be_short() {
    let half = half();
    let part = half.clone();
    let tries = Workflow::new("tries").version("1", move |run: Run, (): ()| {
        let half = part.clone();
        async move {
            let child = half.start_child(&run, 7);
            let short = matches!(child.wait_within(Duration::from_secs(1)).await, Err(ChildError::WaitTimedOut { .. }));
            match child.wait().await {
                Err(ChildError::Failed { error: Odd(7), child }) => Ok::<_, Failure>((short, child.run)),
                other => Err(Failure::new("Unexpected", format!("{other:?}"))),
            }
        }
    });
    let house = House::with(vec![half.register(), tries.register()]).await;
    let handle = tries.start(&house.client, ()).await.unwrap();
    let (short, child) = handle.wait().await.unwrap();
    assert!(short && child.is_some());
    house.close().await;
}

#[tokio::test(start_paused = true)]
async fn children_are_cancelled_with_their_parent_all_the_way_down() {
    let sleeper = Workflow::new("sleeper").version("1", |run: Run, (): ()| async move {
        run.sleep("long", 30 * HOUR).await;
        Ok::<_, Failure>(())
    });
    let leaf = sleeper.clone();
    let middle = Workflow::new("middle").version("1", move |run: Run, (): ()| {
        let leaf = leaf.clone();
        async move { Ok::<_, Failure>(leaf.start_child(&run, ()).wait().await?) }
    });
    let inner = middle.clone();
    let top = Workflow::new("top").version("1", move |run: Run, (): ()| {
        let middle = inner.clone();
        async move { Ok::<_, Failure>(middle.start_child(&run, ()).wait().await?) }
    });
    let house = House::with(vec![sleeper.register(), middle.register(), top.register()]).await;
    let handle = top.start(&house.client, ()).await.unwrap();
    until(&handle, |state| matches!(state, RunState::AwaitingChild { .. })).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let child = handle.record().await.unwrap().children[0].run.unwrap();
    let child = house.client.handle(&middle, child);
    let grandchild = house.client.handle(&sleeper, child.record().await.unwrap().children[0].run.unwrap());
    until(&grandchild, |state| matches!(state, RunState::Sleeping { .. })).await;
    handle.cancel().await.unwrap();
    assert!(matches!(grandchild.wait().await, Err(RunError::Cancelled { .. })));
    assert!(matches!(child.state().await.unwrap(), RunState::Cancelled { .. }));
    house.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_workflow_that_starts_itself_comes_to_an_end() {
    fn endless() -> WorkflowVersion<u32, u32, Failure> {
        Workflow::new("endless").version("1", |run: Run, depth: u32| async move {
            match endless().start_child(&run, depth + 1).wait().await {
                Err(ChildError::Engine { error, child })
                    if child.run.is_none() && error.name == "ChildDepthExceeded" =>
                {
                    Ok::<_, Failure>(depth)
                }
                other => Ok(other?),
            }
        })
    }
    let house = House::with(vec![endless().register()]).await;
    let handle = endless().start(&house.client, 0).await.unwrap();
    assert_eq!(handle.wait().await.unwrap(), 32);
    house.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_child_can_be_cancelled_and_found_under_its_reference_id() {
    let sleeper = Workflow::new("sleeper").version("1", |run: Run, n: u32| async move {
        run.sleep("long", HOUR).await;
        Ok::<_, Failure>(n)
    });
    let part = sleeper.clone();
    let parent = Workflow::new("parent").version("1", move |run: Run, (): ()| {
        let sleeper = part.clone();
        async move {
            let shared = sleeper.child().reference_id("shared").start(&run, 1);
            let other = sleeper.child().reference_id("shared").start(&run, 2);
            let doomed = sleeper.start_child(&run, 3);
            doomed.cancel();
            let conflict = matches!(other.wait().await, Err(ChildError::Engine { error, .. }) if error.name == "ReferenceConflict");
            let cancelled = matches!(doomed.wait().await, Err(ChildError::Cancelled { .. }));
            Ok::<_, Failure>((shared.wait().await?, conflict, cancelled))
        }
    });
    let house = House::with(vec![sleeper.register(), parent.register()]).await;
    let outside = sleeper.start(&house.client, 1).reference_id("shared").await.unwrap();
    let began = Instant::now();
    let handle = parent.start(&house.client, ()).await.unwrap();
    assert_eq!(handle.wait().await.unwrap(), (1, true, true));
    assert!(began.elapsed() >= HOUR);
    assert_eq!(handle.record().await.unwrap().children[0].run, Some(outside.id()));
    house.close().await;
}
