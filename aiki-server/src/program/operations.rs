//! `/healthz`, `/readyz` and `/metrics`: for those who operate the server.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::http::Role;
use crate::keys::{Grant, Keyring, KeyringError};
use axum::extract::{RawQuery, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use metrics_exporter_prometheus::PrometheusHandle;

use super::checks::Checks;

/// What the answers are made of.
pub(crate) struct Operations {
    pub(crate) checks: Checks,
    pub(crate) prometheus: PrometheusHandle,
    pub(crate) keys: Arc<Keyring>,
    pub(crate) draining: Arc<AtomicBool>,
}

/// The routes.
pub(crate) fn routes(operations: Operations) -> Router {
    Router::new()
        .route("/healthz", get(async || Json(serde_json::json!({"status": "alive"}))))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(Arc::new(operations))
}

impl Operations {
    async fn caller(&self, headers: &HeaderMap) -> Result<Grant, KeyringError> {
        self.keys.check_headers(headers).await
    }
}

/// Open to everybody, so that it can be probed; reasons are for holders of a key.
async fn readyz(State(operations): State<Arc<Operations>>, query: RawQuery, headers: HeaderMap) -> Response {
    let query = query.0.unwrap_or_default();
    let exclude: Vec<_> = query.split('&').filter_map(|pair| pair.strip_prefix("exclude=")).collect();
    let caller = operations.caller(&headers).await;
    let draining = operations.draining.load(Ordering::Relaxed);
    let mut readiness = operations.checks.readiness(draining, &exclude, caller.is_ok());
    if let Err(KeyringError::Unavailable(_)) = caller {
        // The keys are in the same database: nobody can be told more, but this much is no secret.
        readiness.say("database", "it cannot be reached, the log of the server has the reason");
    }
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(readiness)).into_response()
}

async fn metrics(State(operations): State<Arc<Operations>>, headers: HeaderMap) -> Response {
    match operations.caller(&headers).await {
        Ok(grant) if grant.role == Role::Admin => {}
        Ok(_) => return (StatusCode::FORBIDDEN, "metrics are for keys of the role admin").into_response(),
        Err(KeyringError::Unavailable(error)) => {
            tracing::warn!(%error, "an API key could not be checked");
            return (StatusCode::SERVICE_UNAVAILABLE, "the API key cannot be checked now").into_response();
        }
        Err(error) => return (StatusCode::UNAUTHORIZED, error.to_string()).into_response(),
    }
    let text = operations.prometheus.render();
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}
