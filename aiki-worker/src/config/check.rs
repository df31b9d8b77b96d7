//! The rules that a configuration must keep.

use std::time::Duration;

use aiki_core::name::check_name;
use serde_json::Value;

use super::{ConfigError, WorkerConfig};

/// More runs at a time than any process can hold.
const MAX_CONCURRENCY: usize = 100_000;
/// The fastest heartbeat that makes sense, in milliseconds.
const MIN_HEARTBEAT_MS: u64 = 10;
/// No interval or timeout is longer than a day, in milliseconds.
const MAX_INTERVAL_MS: u64 = 24 * 60 * 60 * 1_000;
/// Longest id, so that the unique name built from it stays a short name.
const MAX_ID_LEN: usize = 96;

const HEARTBEAT: &str = "workflowRun.heartbeatIntervalMs";

pub(super) fn values(config: &WorkerConfig) -> Result<(), ConfigError> {
    if let Some(id) = &config.id {
        id_is_a_name(id)?;
    }
    let runs = config.max_concurrent_workflow_runs;
    if !(1..=MAX_CONCURRENCY).contains(&runs) {
        let remedy = format!("give a number from 1 to {MAX_CONCURRENCY}");
        return Err(ConfigError::value("maxConcurrentWorkflowRuns", format!("is {runs}"), remedy));
    }
    if let Some(heartbeat) = config.workflow_run.heartbeat_interval_ms
        && !(MIN_HEARTBEAT_MS..=MAX_INTERVAL_MS).contains(&heartbeat)
    {
        let remedy = format!("give {MIN_HEARTBEAT_MS} ms to {MAX_INTERVAL_MS} ms; 30000 is usual");
        return Err(ConfigError::value(HEARTBEAT, format!("is {heartbeat} ms"), remedy));
    }
    let graceful = config.graceful_shutdown_timeout_ms;
    if graceful > MAX_INTERVAL_MS {
        let remedy = format!("give at most {MAX_INTERVAL_MS} ms; 0 hands running runs back at once");
        return Err(ConfigError::value("gracefulShutdownTimeoutMs", format!("is {graceful} ms"), remedy));
    }
    if let Some(subscriber) = &config.subscriber {
        if subscriber.kind.is_empty() {
            return Err(ConfigError::value("subscriber.type", "is empty", "name a subscriber, such as `memory`"));
        }
        if let Some(value) = subscriber.options.get("claimMinIdleTimeMs") {
            let lease = claim_min_idle_time(value)?;
            config.heartbeat_interval().map_or(Ok(()), |heartbeat| heartbeat_against_lease(heartbeat, lease))?;
        }
    }
    Ok(())
}

fn id_is_a_name(id: &str) -> Result<(), ConfigError> {
    let remedy = format!("use 1 to {MAX_ID_LEN} letters, digits and . _ / -, or leave it out");
    if id.len() > MAX_ID_LEN {
        return Err(ConfigError::value("id", format!("has {} characters", id.len()), remedy));
    }
    check_name(id).map_err(|error| ConfigError::value("id", format!("cannot be used ({error})"), remedy))
}

fn claim_min_idle_time(value: &Value) -> Result<Duration, ConfigError> {
    match value.as_u64() {
        Some(ms @ 1..=MAX_INTERVAL_MS) => Ok(Duration::from_millis(ms)),
        _ => Err(ConfigError::value(
            "subscriber.claimMinIdleTimeMs",
            format!("is {value}"),
            format!("give 1 ms to {MAX_INTERVAL_MS} ms; 60000 is usual"),
        )),
    }
}

/// Refuses a heartbeat that is slower than half of the time after which others take over.
pub(crate) fn heartbeat_against_lease(heartbeat: Duration, lease: Duration) -> Result<(), ConfigError> {
    if heartbeat <= lease / 2 {
        return Ok(());
    }
    let (beat, lease) = (heartbeat.as_millis(), lease.as_millis());
    Err(ConfigError::value(
        HEARTBEAT,
        format!("is {beat} ms, but a run that is silent for claimMinIdleTimeMs = {lease} ms goes to another worker"),
        format!("give at most half of that, {} ms, or raise subscriber.claimMinIdleTimeMs", lease / 2),
    ))
}

/// The heartbeat that is really used: two beats may fail before a lease lapses.
pub(crate) fn effective_heartbeat(configured: Duration, lease: Duration) -> Duration {
    configured.min(lease / 3)
}

/// The heartbeat unless configured.
pub(crate) const DEFAULT_HEARTBEAT: Duration = Duration::from_secs(30);
