//! Measures how late the runs of a schedule are announced, each made durable on SQLite before, on an idle server.
//!
//! ```sh
//! cargo run --release -p aiki-server --example schedule_lateness [occurrences] [folder]
//! ```

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aiki_core::hash::input_hash;
use aiki_core::name::WorkflowKey;
use aiki_core::schedule::ActivateSchedule;
use aiki_core::{Clock, OverlapPolicy, PublishReport, Publisher, ReadyRun, RunId, ScheduleSpec, Timestamp};
use aiki_runtime::SystemClock;
use aiki_server::Server;

const EVERY: Duration = Duration::from_millis(100);

/// Notes when each run is announced first. Ids ascend as the runs were made.
#[derive(Default)]
struct Announced(Mutex<BTreeMap<RunId, Timestamp>>);

#[async_trait::async_trait]
impl Publisher for Announced {
    async fn publish(&self, runs: &[ReadyRun]) -> PublishReport {
        let now = SystemClock.now();
        if let Ok(mut announced) = self.0.lock() {
            for run in runs {
                announced.entry(run.id).or_insert(now);
            }
        }
        PublishReport::default()
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let occurrences: u32 = arguments.next().map_or(Ok(100), |text| text.parse())?;
    let folder = match arguments.next() {
        Some(folder) => tempfile::tempdir_in(folder)?,
        None => tempfile::tempdir()?,
    };
    let announced = Arc::new(Announced::default());
    let server = Server::builder().sqlite(folder.path().join("aiki.db")).publisher(announced.clone()).start().await?;
    let client = server.client();
    let spec = ScheduleSpec::every(EVERY).overlap(OverlapPolicy::Allow);
    let request = ActivateSchedule::new(WorkflowKey::user("w", "1"), spec, None, input_hash(None)?);
    let schedule = client.server().activate_schedule(request).await?;
    tokio::time::sleep(EVERY * occurrences + EVERY / 2).await;
    server.close().await;

    let announced = announced.0.lock().map_err(|_| "the publisher panicked")?;
    let mut due = schedule.created_at;
    let mut late = Vec::with_capacity(announced.len());
    for at in announced.values() {
        due = due.after(EVERY);
        late.push(at.since(due));
    }
    late.sort_unstable();
    let part = |percent: usize| late.get(late.len().saturating_sub(1) * percent / 100).copied().unwrap_or_default();
    println!(
        "{} occurrences: half within {:?}, 99 % within {:?}, all within {:?}",
        late.len(),
        part(50),
        part(99),
        part(100)
    );
    Ok(())
}
