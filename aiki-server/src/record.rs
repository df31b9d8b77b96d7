//! From a stored run to what callers read.

use aiki_core::run::export::RunExport;
use aiki_core::run::history::{self, HistoryEntry};
use aiki_core::run::record::{Signal, TransitionRecord, signals, transitions};
use aiki_core::{RunRecord, ServerError, Timestamp};

use crate::storage::StoredRun;

/// Folds a run's pages and tail into its record.
pub(crate) fn fold(run: &StoredRun, pages: &[String]) -> Result<RunRecord, ServerError> {
    Ok(RunRecord::fold(&run.head, entries(run, pages)?))
}

/// Lists the transitions of a run.
pub(crate) fn list(run: &StoredRun, pages: &[String]) -> Result<Vec<TransitionRecord>, ServerError> {
    Ok(transitions(&run.head, entries(run, pages)?))
}

/// The signals of a run behind the first `known`.
pub(crate) fn signals_behind(known: u32, run: &StoredRun, pages: &[String]) -> Result<Vec<Signal>, ServerError> {
    Ok(signals(&run.head, known, entries(run, pages)?))
}

/// The whole of a run as it is stored.
pub(crate) fn export(run: StoredRun, pages: &[String], now: Timestamp) -> Result<RunExport, ServerError> {
    let history = entries(&run, pages)?;
    Ok(RunExport { exported_at: now, head: run.head, history })
}

fn entries(run: &StoredRun, pages: &[String]) -> Result<Vec<HistoryEntry>, ServerError> {
    let texts = pages.iter().chain(std::iter::once(&run.tail));
    let entries: Result<Vec<_>, _> = texts.flat_map(|text| history::parse(text)).collect();
    entries.map_err(|error| ServerError::Internal(format!("run {}: {error}", run.head.id)))
}
