//! Outcomes reach the handler one at a time and in the order in which they were recorded, so that code
//! that looks at what is ready first decides in replay as it did live.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use aiki_core::replay::{Pass, PassStep};
use aiki_core::{Failure, RegisteredWorkflow, ReportReceipt, Run, RunState, Task, TaskContext, Workflow};
use futures::future::{Either, join_all, poll_fn, select};
use futures::stream::{FuturesUnordered, StreamExt};
use proptest::prelude::*;

use crate::support::{Chance, Driver, Pace, Sim, World, cases};

/// A task that answers its input after some ticks of the host.
fn slow(world: &World, ticks: u8) -> Task<u32, u32> {
    let world = world.clone();
    Task::new("slow", move |cx: TaskContext, input: u32| {
        let work = world.begin(&cx, ticks);
        async move {
            work.await;
            Ok::<_, Failure>(input)
        }
    })
}

/// A workflow whose handler is `handler`.
fn workflow<F, Fut>(world: &World, handler: F) -> RegisteredWorkflow
where
    F: Fn(Run, World) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Vec<u32>, Failure>> + Send + 'static,
{
    let world = world.clone();
    Workflow::new("program").version("1", move |run: Run, _: u32| handler(run, world.clone())).register()
}

fn output(sim: &Sim) -> Vec<u32> {
    match &sim.server.head.state {
        RunState::Completed { output } => serde_json::from_str(output.as_ref().unwrap().as_str()).unwrap(),
        other => panic!("{other:?}"),
    }
}

/// Runs a workflow by chance, and replays all of it but the end. Answers both outputs, and how many
/// bodies ran in replay.
fn live_and_replayed(seed: u64, make: impl Fn(&World) -> RegisteredWorkflow) -> (Vec<u32>, Vec<u32>, usize) {
    let world = World::default();
    let driver = Driver::Chance(Chance::new(seed), Pace::Any);
    let mut live = Sim::with_workflow(make(&world), world, driver);
    live.run();
    let world = World::default();
    let mut replayed = Sim::on(live.before_its_end(), make(&world), world, Driver::Steady);
    replayed.run();
    let executions = replayed.world.seen().executions.len();
    (output(&live), output(&replayed), executions)
}

async fn first_come_first_served(run: Run, world: World) -> Result<Vec<u32>, Failure> {
    let mut set: FuturesUnordered<_> = (1..5).map(|input| slow(&world, 1).start(&run, input)).collect();
    let mut order = Vec::new();
    while let Some(value) = set.next().await {
        let value = value?;
        order.push(value);
        if value < 10 {
            set.push(slow(&world, 1).start(&run, value * 10 + order.len() as u32));
        }
    }
    Ok(order)
}

async fn in_chunks(run: Run, world: World) -> Result<Vec<u32>, Failure> {
    let set: FuturesUnordered<_> = (0..5).map(|input| slow(&world, 0).start(&run, input)).collect();
    let mut chunks = set.ready_chunks(10);
    let mut sizes = Vec::new();
    while let Some(chunk) = chunks.next().await {
        sizes.push(chunk.len() as u32);
        slow(&world, 0).start(&run, 100 + chunk.len() as u32).await?;
    }
    Ok(sizes)
}

async fn races(run: Run, world: World) -> Result<Vec<u32>, Failure> {
    let mut winners = Vec::new();
    for round in 0..4 {
        let left = slow(&world, 1).start(&run, round * 2);
        let right = slow(&world, 1).start(&run, round * 2 + 1);
        match select(left, right).await {
            Either::Left((value, _)) | Either::Right((value, _)) => winners.push(value?),
        }
    }
    Ok(winners)
}

proptest! {
    #![proptest_config(cases(40))]

    #[test]
    fn what_ended_first_is_followed_up_first_in_replay(seed: u64) {
        let (live, replayed, again) = live_and_replayed(seed, |world| workflow(world, first_come_first_served));
        prop_assert_eq!(live, replayed);
        prop_assert_eq!(again, 0, "no body ran again");
    }

    #[test]
    fn the_winner_of_a_race_wins_in_replay(seed: u64) {
        let (live, replayed, _) = live_and_replayed(seed, |world| workflow(world, races));
        prop_assert_eq!(live, replayed);
    }
}

#[test]
fn what_is_ready_together_is_handed_out_apart_live_as_in_replay() {
    let (live, replayed, again) = live_and_replayed(1, |world| workflow(world, in_chunks));
    // Five bodies end at once. The first outcome is handed out alone; the others settle one by one
    // while the handler is busy with it.
    assert_eq!(live, [1, 4]);
    assert_eq!(live, replayed);
    assert_eq!(again, 0);
}

#[test]
fn bodies_that_end_in_one_poll_are_handed_out_in_the_order_in_which_they_end() {
    let ended = Arc::new(Mutex::new(Vec::new()));
    let (live, replayed, _) = live_and_replayed(5, |world| {
        let ended = ended.clone();
        workflow(world, move |run: Run, _: World| {
            let ended = ended.clone();
            async move {
                let task = Task::new("quick", move |_: TaskContext, input: u32| {
                    ended.lock().unwrap().push(input);
                    async move { Ok::<_, Failure>(input) }
                });
                let mut set: FuturesUnordered<_> = (0..6).map(|input| task.start(&run, input)).collect();
                let mut seen = Vec::new();
                while let Some(value) = set.next().await {
                    seen.push(value?);
                }
                Ok(seen)
            }
        })
    });
    assert_eq!(live, *ended.lock().unwrap());
    assert_eq!(live, replayed);
}

/// Counts the polls of a handler, and notes in which of them its calls got their outcome.
async fn noted_polls(run: Run, world: World) -> Result<Vec<u32>, Failure> {
    let polls = Arc::new(AtomicU64::new(0));
    let seen = (0..6).map(|input| {
        let (call, polls) = (slow(&world, 0).start(&run, input), polls.clone());
        async move { call.await.map(|_| polls.load(Ordering::SeqCst) as u32) }
    });
    let mut all = std::pin::pin!(join_all(seen));
    let all = poll_fn(|cx| {
        polls.fetch_add(1, Ordering::SeqCst);
        all.as_mut().poll(cx)
    });
    let mut seen = all.await.into_iter().collect::<Result<Vec<_>, _>>()?;
    seen.dedup();
    Ok(vec![seen.len() as u32])
}

#[test]
fn one_poll_sees_one_outcome() {
    let (live, replayed, _) = live_and_replayed(3, |world| workflow(world, noted_polls));
    assert_eq!((live, replayed), (vec![6], vec![6]));
}

#[test]
fn twins_keep_their_order_though_the_second_ends_first() {
    let count = Arc::new(AtomicU64::new(0));
    let world = World::default();
    let make = |world: &World| {
        let count = count.clone();
        workflow(world, move |run: Run, world: World| {
            let (count, world) = (count.clone(), world.clone());
            async move {
                // What the two answer does not follow from their input, which is the same.
                let task = Task::new("twin", move |cx: TaskContext, _: u32| {
                    let (work, number) = (world.begin(&cx, 1), count.fetch_add(1, Ordering::SeqCst) as u32);
                    async move {
                        work.await;
                        Ok::<_, Failure>(number)
                    }
                });
                let twins = join_all([task.start(&run, 7), task.start(&run, 7)]).await;
                run.sleep("pause", std::time::Duration::from_secs(60)).await;
                twins.into_iter().map(|twin| Ok(twin?)).collect()
            }
        })
    };
    let mut sim = Sim::with_workflow(make(&world), world, Driver::Steady);
    sim.run_until(|sim| sim.passes == 1);
    let record = sim.server.record();
    let outputs: Vec<u32> = record
        .tasks
        .iter()
        .map(|task| match &task.state {
            aiki_core::run::TaskState::Completed { output, .. } => output.as_ref().unwrap().as_str().parse().unwrap(),
            other => panic!("{other:?}"),
        })
        .collect();
    sim.run();
    assert_eq!(output(&sim), outputs, "each call got its own answer back");
    assert_eq!(count.load(Ordering::SeqCst), 2, "neither ran again");
}

/// In its second attempt a run asks for what the first had recorded, while a new body ends.
#[test]
fn what_an_earlier_attempt_recorded_is_handed_out_alone_too() {
    let world = World::default();
    world.seen().forget_lines = true;
    let handler = workflow(&world, |run: Run, world: World| async move {
        if run.attempt() == 1 {
            slow(&world, 0).start(&run, 1).await?;
            return Err(Failure::new("E", "again"));
        }
        let old = async {
            slow(&world, 0).start(&run, 2).await?;
            slow(&world, 0).start(&run, 1).await
        };
        let set: FuturesUnordered<futures::future::BoxFuture<'_, _>> = FuturesUnordered::new();
        set.push(Box::pin(old));
        set.push(Box::pin(slow(&world, 1).start(&run, 3)));
        Ok(set.ready_chunks(10).map(|chunk| chunk.len() as u32).collect().await)
    });
    let mut sim = Sim::with_workflow(handler, world.clone(), Driver::Steady);
    sim.server.head.options = Some(aiki_core::run::RunOptions {
        retry: Some(aiki_core::RetryStrategy::fixed(2, std::time::Duration::from_secs(1))),
        pool: None,
    });
    sim.pass();
    sim.clock.advance_to(sim.server.head.due_at().unwrap());
    sim.server.due();
    let claim = sim.server.claim().unwrap();
    world.begin_pass(&claim.record);
    let mut pass = Pass::new(claim, &sim.workflow, sim.clock.clone(), sim.config);
    let mut cx = Context::from_waker(Waker::noop());
    loop {
        match pass.poll(&mut cx) {
            // An outcome is about to be seen: now the other body ends as well.
            PassStep::Again => world.waiting().into_iter().for_each(|task| world.tick(task)),
            PassStep::Report(report) => {
                sim.server.report(&report).unwrap();
                world.answered(&report.transitions);
                pass.accepted(&ReportReceipt::default());
            }
            PassStep::Close(_) => break,
            PassStep::Wait { .. } => panic!("the bodies end without help"),
        }
    }
    assert_eq!(output(&sim), [1, 1]);
}

#[test]
fn a_body_that_never_rests_does_not_hold_up_its_siblings() {
    let world = World::default();
    let done = Arc::new(AtomicU64::new(0));
    let make = {
        let done = done.clone();
        move |run: Run, world: World| {
            let done = done.clone();
            async move {
                let until = done.clone();
                let restless = Task::new("restless", move |_: TaskContext, _: u32| {
                    let until = until.clone();
                    poll_fn(move |cx| {
                        if until.load(Ordering::SeqCst) > 0 {
                            return Poll::Ready(Ok::<u32, Failure>(1));
                        }
                        cx.waker().wake_by_ref();
                        Poll::Pending
                    })
                });
                let last = Task::new("last", move |_: TaskContext, _: u32| {
                    done.fetch_add(1, Ordering::SeqCst);
                    async { Ok::<u32, Failure>(2) }
                });
                let branch = async {
                    slow(&world, 0).start(&run, 1).await?;
                    slow(&world, 0).start(&run, 2).await?;
                    last.start(&run, 3).await
                };
                let (restless, last) = futures::future::join(restless.start(&run, 0), branch).await;
                Ok(vec![restless?, last?])
            }
        }
    };
    let mut sim = Sim::with_workflow(workflow(&world, make), world, Driver::Steady);
    sim.run();
    assert_eq!(output(&sim), [1, 2]);
}
