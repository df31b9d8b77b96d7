//! Requests and connections in numbers, and the recorder of all numbers.

use std::time::Instant;

use crate::http::ProcedureName;
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use super::exit::Failure;

/// Seconds.
const TIMES: &[f64] =
    &[0.000_5, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
/// Requests in one commit.
const BATCHES: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0];

/// Installs the recorder of this process.
pub(crate) fn install() -> Result<PrometheusHandle, Failure> {
    let handle = PrometheusBuilder::new()
        .set_buckets(TIMES)
        .and_then(|builder| builder.set_buckets_for_metric(Matcher::Full("aiki_commit_requests".into()), BATCHES))
        .and_then(PrometheusBuilder::install_recorder)
        .map_err(|error| Failure::broken(format!("metrics cannot be recorded: {error}")))?;
    crate::describe_metrics();
    Ok(handle)
}

/// An open connection, for as long as this lives.
pub(crate) struct Connection(());

pub(crate) fn connection() -> Connection {
    metrics::gauge!("aiki_connections").increment(1.0);
    Connection(())
}

impl Drop for Connection {
    fn drop(&mut self) {
        metrics::gauge!("aiki_connections").decrement(1.0);
    }
}

/// A request that is being worked on. It counts also when its caller goes away.
struct InFlight {
    began: Instant,
    procedure: Option<&'static str>,
    status: Option<u16>,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        metrics::gauge!("aiki_requests_in_flight").decrement(1.0);
        let procedure = self.procedure.unwrap_or("none");
        let status = self.status.map_or_else(|| "gone".to_owned(), |status| status.to_string());
        metrics::counter!("aiki_requests_total", "procedure" => procedure, "status" => status).increment(1);
        if self.status.is_some() {
            let took = self.began.elapsed().as_secs_f64();
            metrics::histogram!("aiki_request_seconds", "procedure" => procedure).record(took);
        }
    }
}

/// Counts a request of the API.
pub(crate) async fn request(request: Request, next: Next) -> Response {
    metrics::gauge!("aiki_requests_in_flight").increment(1.0);
    let mut in_flight = InFlight { began: Instant::now(), procedure: None, status: None };
    let response = next.run(request).await;
    in_flight.status = Some(response.status().as_u16());
    in_flight.procedure = response.extensions().get::<ProcedureName>().map(|name| name.0);
    response
}

pub(crate) fn ready(ready: bool) {
    metrics::gauge!("aiki_ready").set(f64::from(u8::from(ready)));
}
