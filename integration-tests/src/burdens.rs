//! Workflows that burden their worker.

use std::fs::File;
use std::path::PathBuf;
use std::time::Duration;

use aiki::prelude::*;

/// How long [`hoard`] keeps what it has.
pub const HOARDED: Duration = Duration::from_secs(4);

/// A task that answers so many bytes; the run answers how many they were.
pub fn bulk() -> WorkflowVersion<u64, u64, Failure> {
    let make = Task::new("make", |_: TaskContext, bytes: u64| async move {
        Ok::<_, Failure>("x".repeat(usize::try_from(bytes).unwrap_or_default()))
    });
    Workflow::new("bulk").version("1.0.0", move |run: Run, bytes: u64| {
        let make = make.clone();
        async move { Ok::<_, Failure>(make.start(&run, bytes).await?.len() as u64) }
    })
}

/// A task that takes every file descriptor that is left, for [`HOARDED`]. It does so once for each directory, notes there
/// in the file `hoarding` how many they were.
pub fn hoard() -> WorkflowVersion<PathBuf, bool, Failure> {
    let take = Task::new("take", |_: TaskContext, folder: PathBuf| async move {
        let note = folder.join("hoarding");
        if note.exists() {
            return Ok::<_, Failure>(false);
        }
        let mut note = File::create(note)?;
        let mut taken = Vec::new();
        let ends = tokio::time::Instant::now() + HOARDED;
        while tokio::time::Instant::now() < ends {
            // What others close is taken as well.
            while let Ok(file) = File::open("/dev/null") {
                taken.push(file);
            }
            use std::io::Write;
            note.write_all(format!("{}\n", taken.len()).as_bytes())?;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        drop(taken);
        Ok(true)
    });
    Workflow::new("hoard").version("1.0.0", move |run: Run, folder: PathBuf| {
        let take = take.clone();
        async move { Ok::<_, Failure>(take.start(&run, folder).await?) }
    })
}

/// A handler that neither yields nor hears of anything for so many milliseconds.
pub fn deaf() -> WorkflowVersion<u64, (), Failure> {
    Workflow::new("deaf").version("1.0.0", |_: Run, ms: u64| async move {
        std::thread::sleep(Duration::from_millis(ms));
        Ok::<_, Failure>(())
    })
}
