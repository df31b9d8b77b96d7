//! Workers: who is there, what they serve and hold.

use std::io::Write;

use aiki_core::server_client::{WorkerInfo, WorkerServes};
use aiki_core::{Client, Timestamp};

use super::table::Table;
use super::{Format, LookingError, relative, utc};

/// Writes the workers that the server has heard of lately, by name.
///
/// # Errors
/// [`LookingError`]; what was written by then stays written.
pub async fn list_workers(
    client: &Client,
    format: Format,
    now: Timestamp,
    out: &mut impl Write,
) -> Result<(), LookingError> {
    let mut workers = client.workers().await?;
    workers.sort_by(|a, b| a.name.cmp(&b.name));
    if format == Format::JsonLines {
        for worker in &workers {
            writeln!(out, "{}", serde_json::to_string(worker)?)?;
        }
        return Ok(());
    }
    if workers.is_empty() {
        return Ok(writeln!(out, "no workers")?);
    }
    let mut table = Table::new(&["WORKER", "LAST SEEN", "", "HOLDS", "POOLS", "SERVES"]);
    workers.iter().for_each(|worker| table.row(row(worker, now)));
    Ok(table.write("", out)?)
}

fn row(worker: &WorkerInfo, now: Timestamp) -> [String; 6] {
    let joined = |texts: Vec<String>| texts.join(", ");
    let (pools, serves) = match &worker.serves {
        None => (String::new(), "has not said".into()),
        Some(WorkerServes { workflows, pools }) => (
            joined(pools.iter().map(ToString::to_string).collect()),
            joined(workflows.iter().map(ToString::to_string).collect()),
        ),
    };
    [
        worker.name.to_string(),
        utc(worker.last_seen),
        relative(worker.last_seen, now),
        worker.holds.len().to_string(),
        pools,
        serves,
    ]
}
