//! Measures how long a workflow of thirty days takes in an environment: `cargo run -p aiki-testing --example thirty_days`.

use std::time::{Duration, Instant};

use aiki_core::{Failure, Run, Task, TaskContext, Workflow};
use aiki_testing::TestEnv;

const TIMES: usize = 20;
const DAYS: u32 = 30;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let remind = Task::new("remind", |_: TaskContext, day: u32| async move { Ok::<_, Failure>(day) });
    let month = Workflow::new("month").version("1.0.0", move |run: Run, once: bool| {
        let remind = remind.clone();
        async move {
            if once {
                run.sleep("month", Duration::from_secs(86_400 * u64::from(DAYS))).await;
                return Ok::<_, Failure>(remind.start(&run, DAYS).await?);
            }
            for day in 0..DAYS {
                run.sleep("day", Duration::from_secs(86_400)).await;
                remind.start(&run, day).await?;
            }
            Ok(DAYS)
        }
    });
    for (name, once) in [("one sleep of 30 days and a task", true), ("30 times a day's sleep and a task", false)] {
        let mut took = Vec::with_capacity(TIMES);
        for _ in 0..TIMES {
            let began = Instant::now();
            let env = TestEnv::with([&month]).await?;
            env.run_to_end(&month, once).await?;
            env.shutdown().await;
            took.push(began.elapsed());
        }
        took.sort_unstable();
        println!("{name}: median {:?}, of {TIMES}, from {:?} to {:?}", took[TIMES / 2], took[0], took[TIMES - 1]);
    }
    Ok(())
}
