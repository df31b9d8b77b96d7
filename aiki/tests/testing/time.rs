use std::time::Duration;

use aiki::prelude::*;
use aiki::testing::{EnvError, TestEnv};
use aiki::{Either, OverlapPolicy, RunState, race};

pub(crate) const DAY: Duration = Duration::from_secs(86_400);
const HOUR: Duration = Duration::from_secs(3_600);
const PAID: Event<u64> = Event::new("paid");

fn sleeper(days: u32) -> WorkflowVersion<(), u32, Failure> {
    Workflow::new("sleeper").version("1", move |run: Run, (): ()| async move {
        for _ in 0..days {
            run.sleep("day", DAY).await;
        }
        Ok::<_, Failure>(days)
    })
}

fn trial() -> WorkflowVersion<(), String, Failure> {
    Workflow::new("trial")
        .version("1", |run: Run, (): ()| async move {
            Ok::<_, Failure>(match race(run.event(&PAID), run.sleep("trial", 14 * DAY)).await {
                Either::Left(cents) => format!("paid {cents}"),
                Either::Right(_) => "over".to_owned(),
            })
        })
        .event(&PAID)
}

#[tokio::test]
async fn thirty_days_take_thirty_steps_and_not_a_million_ticks() {
    let sleeper = sleeper(30);
    let env = TestEnv::with([&sleeper]).await.unwrap();
    let before = env.now();
    assert_eq!(env.run_to_end(&sleeper, ()).await.unwrap(), 30);
    assert_eq!(env.now().since(before).as_secs() / 86_400, 30);
    assert!(env.now().since(before) < 30 * DAY + HOUR);
    env.shutdown().await;
}

#[tokio::test]
async fn a_plain_wait_on_a_handle_lets_time_jump_as_well() {
    let sleeper = sleeper(20);
    let env = TestEnv::with([&sleeper]).await.unwrap();
    let handle = sleeper.start(&env.client(), ()).delay(10 * DAY).await.unwrap();
    assert_eq!(handle.wait().await.unwrap(), 20);
}

#[tokio::test]
async fn time_passes_by_hand_to_the_millisecond() {
    let trial = trial();
    let env = TestEnv::with([&trial]).await.unwrap();
    let (paying, silent) = (env.start(&trial, ()).await.unwrap(), env.start(&trial, ()).await.unwrap());
    env.settle().await;
    assert!(matches!(silent.state().await.unwrap(), RunState::Sleeping { .. }));
    env.advance(14 * DAY - Duration::from_secs(1)).await;
    assert!(matches!(silent.state().await.unwrap(), RunState::Sleeping { .. }), "a second too early");
    paying.send_event(&PAID, 700).await.unwrap();
    env.advance(Duration::from_secs(1)).await;
    assert_eq!(paying.wait().await.unwrap(), "paid 700");
    assert!(silent.state().await.unwrap().is_terminal(), "it is time");
    assert_eq!(silent.wait().await.unwrap(), "over");
}

#[tokio::test]
async fn timers_of_the_test_itself_are_kept_while_a_run_sleeps_for_days() {
    let trial = trial();
    let env = TestEnv::with([&trial]).await.unwrap();
    let handle = env.start(&trial, ()).await.unwrap();
    let sender = async {
        tokio::time::sleep(HOUR).await;
        handle.send_event(&PAID, 1).await.unwrap();
    };
    let (result, ()) = tokio::join!(handle.wait(), sender);
    assert_eq!(result.unwrap(), "paid 1", "the wait must not jump over the hour");
}

#[tokio::test]
async fn retries_deadlines_and_time_limits_need_no_waiting() {
    let down = Task::new("down", |_: TaskContext, (): ()| async move { Err::<(), _>(Failure::new("Down", "down")) })
        .retry(RetryStrategy::fixed(5, HOUR));
    let slow = Task::new("slow", |_: TaskContext, (): ()| async move {
        tokio::time::sleep(30 * DAY).await;
        Ok::<_, Failure>(())
    })
    .time_limit(HOUR);
    let unlucky = Workflow::new("unlucky").version("1", move |run: Run, (): ()| {
        let (down, slow) = (down.clone(), slow.clone());
        async move {
            let attempts = down.start(&run, ()).await.unwrap_err().task().attempts;
            let timed_out = matches!(slow.start(&run, ()).await, Err(TaskError::TimedOut { .. }));
            run.sleep("for-ever", 3_000 * DAY).await;
            Ok::<_, Failure>((attempts, timed_out))
        }
    });
    let env = TestEnv::with([&unlucky]).await.unwrap();
    let (before, handle) = (env.now(), env.start(&unlucky, ()).time_limit(DAY).await.unwrap());
    assert_eq!(handle.wait().await, Err(RunError::TimedOut));
    assert_eq!(env.now().since(before).as_secs() / 3_600, 24);
    assert_eq!(env.run_to_end(&unlucky, ()).await.unwrap(), (5, true));
}

#[tokio::test]
async fn a_schedule_starts_its_runs_as_days_go_by() {
    let count = Task::new("count", |_: TaskContext, (): ()| async move { Ok::<_, Failure>(()) });
    let counted = count.clone();
    let report = Workflow::new("report").version("1", move |run: Run, (): ()| {
        let count = counted.clone();
        async move { Ok::<_, Failure>(count.start(&run, ()).await?) }
    });
    let env = TestEnv::with([&report]).await.unwrap();
    let schedule = Schedule::every(DAY).overlap(OverlapPolicy::Skip);
    let schedule = schedule.activate(&env.client(), &report, ()).await.unwrap();
    env.advance(30 * DAY).await;
    env.assert_called_times(&count, 30);
    drop(schedule);
}

#[tokio::test]
async fn a_run_that_never_ends_fails_with_what_it_waits_for() {
    let child = Workflow::new("child")
        .version("1", |run: Run, (): ()| async move { Ok::<_, Failure>(run.event(&PAID).await) })
        .event(&PAID);
    let part = child.clone();
    let parent = Workflow::new("parent").version("1", move |run: Run, (): ()| {
        let child = part.clone();
        async move { Ok::<_, Failure>(child.start_child(&run, ()).wait().await?) }
    });
    let stuck = Task::new("stuck", |_: TaskContext, (): ()| async move {
        std::future::pending::<()>().await;
        Ok::<_, Failure>(())
    });
    let waits = Workflow::new("waits").version("1", move |run: Run, (): ()| {
        let stuck = stuck.clone();
        async move { Ok::<_, Failure>(stuck.start(&run, ()).await?) }
    });
    let unserved = Workflow::new("unserved").version("1", |_: Run, (): ()| async move { Ok::<_, Failure>(()) });
    let env = TestEnv::builder().workflows((&child, &parent)).start().await.unwrap();
    let text = env.run_to_end(&parent, ()).await.unwrap_err().to_string();
    assert!(
        text.contains("has not ended after 3650 days of virtual time") && text.contains("child `child@1`"),
        "{text}"
    );
    let text = env.run_to_end(&child, ()).await.unwrap_err().to_string();
    assert!(text.contains("event `paid`, which nobody has sent"), "{text}");
    env.register(&waits);
    let text = env.run_to_end(&waits, ()).await.unwrap_err().to_string();
    assert!(text.contains("task `stuck` (attempt 1 is under way)"), "{text}");
    let env = TestEnv::with([&trial()]).await.unwrap();
    let text = env.run_to_end(&unserved, ()).await.unwrap_err().to_string();
    assert!(text.contains("a worker that serves unserved@1: add it to the environment"), "{text}");
}

#[tokio::test]
async fn a_child_that_nobody_serves_is_named_after_a_day_unless_its_parent_can_go_on() {
    let child = Workflow::new("forgotten").version("1", |_: Run, (): ()| async move { Ok::<_, Failure>(()) });
    let part = child.clone();
    let parent = Workflow::new("parent").version("1", move |run: Run, (): ()| {
        let child = part.clone();
        async move { Ok::<_, Failure>(child.start_child(&run, ()).wait().await?) }
    });
    let patient = Workflow::new("patient").version("1", move |run: Run, (): ()| {
        let child = child.clone();
        async move {
            let child = child.start_child(&run, ());
            Ok::<_, Failure>(matches!(race(child.wait(), run.sleep("patience", 2 * DAY)).await, Either::Right(_)))
        }
    });
    let env = TestEnv::builder().workflows((&parent, &patient)).start().await.unwrap();
    let text = env.run_to_end(&parent, ()).await.unwrap_err().to_string();
    assert!(text.contains("after 1 days of virtual time"), "{text}");
    assert!(text.contains("child `forgotten@1`, and that for a worker that serves forgotten@1"), "{text}");
    assert!(env.run_to_end(&patient, ()).await.unwrap(), "its own time was up first");
}

#[tokio::test]
async fn a_run_that_goes_round_in_circles_does_not_keep_its_test_for_ever() {
    let circles = Workflow::new("circles").version("1", |run: Run, n: u64| async move {
        if n == u64::MAX {
            return Ok::<_, Failure>(());
        }
        run.continue_as_new(n + 1).await
    });
    let env = TestEnv::builder().workflow(&circles).report_limit(300).start().await.unwrap();
    let text = env.run_to_end(&circles, 0).await.unwrap_err().to_string();
    assert!(text.contains("has not ended after 300 reports"), "{text}");
}

#[tokio::test]
async fn a_handler_that_waits_for_the_world_outside_of_a_task_fails_its_run() {
    let foreign = Workflow::new("foreign").version("1", |_: Run, (): ()| async move {
        tokio::time::sleep(DAY).await;
        Ok::<_, Failure>(())
    });
    let env = TestEnv::with([&foreign]).await.unwrap();
    let text = env.run_to_end(&foreign, ()).await.unwrap_err().to_string();
    assert!(text.contains("something that is not durable"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn several_threads_are_refused_before_anything_began() {
    let error = TestEnv::with([&trial()]).await.unwrap_err();
    assert_eq!(error, EnvError::SeveralThreads);
    assert!(format!("{error:?}").contains("without `flavor = \"multi_thread\"`"), "unwrap() says what to do");
}

#[tokio::test]
async fn a_state_is_waited_for_and_one_that_never_comes_is_told() {
    let trial = trial();
    let env = TestEnv::with([&trial]).await.unwrap();
    let handle = env.start(&trial, ()).delay(HOUR).await.unwrap();
    let sleeps = |state: &RunState| matches!(state, RunState::Sleeping { .. });
    let text = handle.wait_until(sleeps, HOUR / 2).await.unwrap_err().to_string();
    assert!(text.contains("the run is scheduled after 1800s"), "{text}");
    assert!(sleeps(&handle.wait_until(sleeps, HOUR).await.unwrap()));
    handle.cancel().await.unwrap();
    let text = handle.wait_until(sleeps, HOUR).await.unwrap_err().to_string();
    assert!(text.contains("the run is cancelled"), "{text}");
}
