//! A cron schedule with a time zone, over the night in which Berlin's clocks go forward.
//!
//! ```text
//! cargo run --example cron_report
//! ```
//!
//! On 29 March 2026 the hour from 02:00 to 03:00 does not exist in Berlin. A report of 09:00 stays at 09:00, one hour
//! earlier by UTC; a report of 02:30 comes at 03:30 on that day. Time is virtual: three days pass at once. A schedule lives on the
//! server: the runs are made while no worker is there, and wait for one.

use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aiki::prelude::*;
use aiki::{Timestamp, VirtualClock};

/// 27 March 2026, 12:00 UTC: 13:00 in Berlin.
const START: Timestamp = Timestamp::from_millis(1_774_612_800_000);
/// 28 March 2026, 00:00 UTC.
const SATURDAY: Timestamp = Timestamp::from_millis(1_774_656_000_000);

const NIGHTLY: &str = "30 2 * * *";
const MORNINGS: &str = "0 9 * * *";
const HOUR: Duration = Duration::from_secs(60 * 60);

/// So many hours and minutes, by UTC, after the midnight with which Saturday begins.
fn utc(day: u32, hour: u32, minute: u32) -> Timestamp {
    SATURDAY.after(HOUR * (24 * day + hour) + HOUR / 60 * minute)
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() -> Result<(), Box<dyn Error>> {
    let shelf: Arc<Mutex<Vec<(String, Timestamp)>>> = Arc::default();
    let on_shelf = shelf.clone();
    let write = Task::new("write-report", move |_: TaskContext, report: (String, Timestamp)| {
        let shelf = on_shelf.clone();
        async move {
            shelf.lock().unwrap_or_else(PoisonError::into_inner).push(report);
            Ok::<_, Failure>(())
        }
    });
    let report = Workflow::new("report").version("1.0.0", move |run: Run, name: String| {
        let write = write.clone();
        async move {
            // The reference id of a scheduled run ends with its occurrence, in milliseconds.
            let occurrence = run.reference_id().and_then(|id| id.rsplit(':').next()?.parse().ok());
            let occurrence = occurrence.ok_or_else(|| Failure::new("NotScheduled", "no schedule started this run"))?;
            write.start(&run, (name, Timestamp::from_millis(occurrence))).await?;
            Ok::<_, Failure>(())
        }
    });

    let clock = Arc::new(VirtualClock::starting_at(START));
    let server = Server::builder().clock(clock.clone()).start().await?;
    let client = server.client();
    let mut schedules = Vec::new();
    for expression in [NIGHTLY, MORNINGS] {
        // While no worker is there the previous run has not ended: the default, `Skip`, would leave the next one out.
        let schedule = Schedule::cron(expression).timezone("Europe/Berlin").overlap(OverlapPolicy::Allow);
        schedules.push(schedule.activate(&client, &report, expression.to_owned()).await?);
    }
    tokio::time::sleep(72 * HOUR).await; // until Monday noon
    for schedule in &schedules {
        schedule.pause().await?;
    }

    let worker = Worker::builder(client.clone())
        .subscriber(server.subscriber())
        .clock(clock)
        .heartbeat_on_runtime(true)
        .build()?;
    worker.workflow_registry().add(&report);
    let running = tokio::spawn({
        let worker = worker.clone();
        async move { worker.start().await }
    });
    let expected = [
        // On Sunday 03:30 summer time, because 02:30 is skipped.
        (NIGHTLY, [utc(0, 1, 30), utc(1, 1, 30), utc(2, 0, 30)]),
        // 09:00 is 08:00 UTC in winter and 07:00 in summer.
        (MORNINGS, [utc(0, 8, 0), utc(1, 7, 0), utc(2, 7, 0)]),
    ];
    for (schedule, (expression, occurrences)) in schedules.iter().zip(&expected) {
        let record = schedule.record().await?;
        assert_eq!(record.run_count, 3, "`{expression}` was due three times");
        for occurrence in occurrences {
            client.handle_by_reference(&report, &record.run_reference(*occurrence)).await?.wait().await?;
        }
    }

    let mut written = shelf.lock().unwrap_or_else(PoisonError::into_inner).clone();
    written.sort_by_key(|(_, occurrence)| *occurrence);
    for (expression, occurrence) in &written {
        let minutes = occurrence.since(SATURDAY).as_secs() / 60;
        println!("March {}, {:02}:{:02} UTC: {expression}", 28 + minutes / 1440, minutes / 60 % 24, minutes % 60);
    }
    let mut wanted: Vec<_> = expected.iter().flat_map(|(name, at)| at.map(|at| (String::from(*name), at))).collect();
    wanted.sort_by_key(|(_, occurrence)| *occurrence);
    assert_eq!(written, wanted, "every occurrence had one report");

    worker.stop().await;
    running.await??;
    server.close().await;
    Ok(())
}
