//! Showing runs and workers to people and to other programs: as tables, or as one JSON document per line. Everything is asked
//! through a [`Client`], so a server in this program and one far away look the same.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use aiki_core::Clock;
//! use aiki_core::listing::RunFilter;
//! use aiki_runtime::SystemClock;
//! use aiki_server::looking::{Format, ListRuns, list};
//!
//! let server = aiki_server::Server::builder().start().await?;
//! let asked = ListRuns { filter: RunFilter::default(), ..ListRuns::default() };
//! let (mut page, now) = (Vec::new(), SystemClock.now());
//! list(&server.client(), asked, Format::Table, now, &mut page).await?;
//! assert_eq!(String::from_utf8(page)?, "no runs\n");
//! # Ok(()) }
//! ```

mod runs;
mod show;
mod table;
mod when;
mod workers;

use std::io;

#[cfg(doc)]
use aiki_core::Client;
use aiki_core::ServerError;
use aiki_core::run::export::ExportError;

pub use runs::{ListRuns, cancel, export, list};
pub use show::show;
pub use when::{relative, utc};
pub use workers::list_workers;

/// How runs are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Aligned columns, for people. May change.
    #[default]
    Table,
    /// One JSON document per line, for programs. Keys may be added.
    JsonLines,
}

/// Why something could not be shown.
#[derive(Debug, thiserror::Error)]
pub enum LookingError {
    /// The server could not be asked, or refused.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// It could not be written.
    #[error("the answer cannot be written: {0}")]
    Write(#[from] io::Error),
    /// It could not be put into JSON.
    #[error("the answer cannot be put into JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// It could not be exported.
    #[error(transparent)]
    Export(#[from] ExportError),
}
