//! Metrics in the text format of Prometheus (feature `prometheus`).
//!
//! ```
//! # async fn example(worker: aiki::Worker) -> Result<(), Box<dyn std::error::Error>> {
//! let prometheus = aiki::prometheus::install()?; // before the workers start
//! // In whatever serves HTTP here: the body of `GET /metrics`.
//! let body = prometheus.render();
//! # Ok(()) }
//! ```
//!
//! What the names mean is in `docs/metrics.md`.

pub use metrics_exporter_prometheus::BuildError;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

/// The recorder of this program. Clones are one.
#[derive(Clone)]
pub struct Prometheus {
    handle: PrometheusHandle,
    #[cfg(feature = "redis")]
    streams: Vec<crate::redis::RedisStreams>,
}

/// Installs the recorder for the whole program.
///
/// # Errors
/// [`BuildError`] when a recorder is installed already: use that one, workers speak to any.
pub fn install() -> Result<Prometheus, BuildError> {
    let handle = PrometheusBuilder::new().install_recorder()?;
    aiki_worker::describe_metrics();
    Ok(Prometheus {
        handle,
        #[cfg(feature = "redis")]
        streams: Vec::new(),
    })
}

impl Prometheus {
    /// Shows the health of these subscriptions as well.
    #[cfg(feature = "redis")]
    pub fn with_redis(mut self, streams: crate::redis::RedisStreams) -> Self {
        self.streams.push(streams);
        self
    }

    /// Everything that was measured, as text: the body of an answer of the type `text/plain; version=0.0.4`.
    pub fn render(&self) -> String {
        #[cfg(feature = "redis")]
        self.streams.iter().for_each(crate::redis::measure);
        self.handle.run_upkeep();
        self.handle.render()
    }
}

impl std::fmt::Debug for Prometheus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Prometheus").finish_non_exhaustive()
    }
}
