//! The router.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::any;
use tracing::Instrument;

use super::body::Bodies;
use super::dispatch::{Api, dispatch};
use super::options::RouterOptions;
use super::procedure::Table;
use super::refusal::Refusal;
use super::request_id::{REQUEST_ID, RequestIds, trace_id};
use super::{contract, cors, native, reply};
use crate::panic::panic_text;
use crate::server::Server;

/// The version of the contract that is spoken.
const CONTRACT: &str = r#"{"version":"0.38.0","iam":{"dashboard":false}}"#;

impl Server {
    /// The HTTP API with the default [`RouterOptions`], to be served by axum. The server lives for as long as
    /// the router does, unless it is closed.
    pub fn router(&self) -> Router {
        self.router_with(RouterOptions::default())
    }

    /// The HTTP API, to be served by axum.
    pub fn router_with(&self, options: RouterOptions) -> Router {
        let bodies = Bodies::new(options.body_limit, options.bodies_limit, options.body_timeout);
        let table =
            Table::new([contract::procedures(), if options.native { native::procedures() } else { Vec::new() }]);
        let api = Arc::new(Api { server: self.inner(), options, table, bodies, ids: RequestIds::new() });
        Router::new()
            .route("/health", any(async |method| only_get(method, r#"{"status":"ok"}"#)))
            .route("/capabilities", any(async |method| only_get(method, CONTRACT)))
            .route("/api", any(dispatch))
            .route("/api/", any(dispatch))
            .route("/api/{*procedure}", any(dispatch))
            .fallback(async || reply::not_found())
            .layer(from_fn_with_state(Arc::clone(&api), around))
            .with_state(api)
    }
}

fn only_get(method: Method, body: &'static str) -> Response {
    match method {
        Method::GET => reply::plain_json(body),
        _ => reply::text(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed"),
    }
}

/// What every request gets, wherever it leads.
async fn around(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    let id = api.ids.of(request.headers());
    let origins = &api.options.origins;
    let headers = if origins.is_empty() { None } else { Some(request.headers().clone()) };
    let mut response = if headers.is_some() && request.method() == Method::OPTIONS {
        let mut response = Response::default();
        *response.status_mut() = StatusCode::NO_CONTENT;
        response
    } else {
        let (request_id, trace_id) = (id.to_str().unwrap_or_default(), trace_id(request.headers()));
        let (method, path) = (request.method().as_str(), request.uri().path());
        let span = tracing::info_span!("request", request_id, %trace_id, method, path);
        caught(next.run(request)).instrument(span).await
    };
    response.headers_mut().insert(REQUEST_ID, id);
    if let Some(headers) = headers {
        cors::allow(origins, &headers, response.headers_mut());
    }
    response
}

/// A panic ends its call and nothing else.
async fn caught(answering: impl Future<Output = Response>) -> Response {
    let mut answering = std::pin::pin!(answering);
    let poll = |cx: &mut std::task::Context<'_>| {
        let polled = std::panic::catch_unwind(AssertUnwindSafe(|| answering.as_mut().poll(cx)));
        // After a panic the future is not polled again.
        polled.unwrap_or_else(|panic| std::task::Poll::Ready(panicked(&*panic)))
    };
    std::future::poll_fn(poll).await
}

fn panicked(panic: &(dyn Any + Send)) -> Response {
    let said = panic_text(panic);
    tracing::error!(said, "a call panicked");
    reply::refused(&Refusal::internal(said))
}
