//! One call from its first check to its answer.

use std::sync::Arc;

use aiki_wire::envelope::open_request;
use aiki_wire::error::ErrorCode;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use axum::response::Response;
use tracing::{debug, error, warn};

use super::body::{Bodies, Received};
use super::call::{is_json, procedure_name, query_data};
use super::caller::{AuthorizeError, Caller};
use super::form;
use super::options::RouterOptions;
use super::procedure::{Procedure, Table};
use super::refusal::Refusal;
use super::reply;
use super::request_id::{RequestIds, TRACE_PARENT};
use crate::local_client::LocalClient;
use crate::server::Inner;

/// In the extensions of an answer: which procedure it is of. Absent when the request named none, or its caller
/// is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcedureName(pub &'static str);

/// What all requests share.
pub(super) struct Api {
    pub(super) server: Arc<Inner>,
    pub(super) options: RouterOptions,
    pub(super) table: Table,
    pub(super) bodies: Bodies,
    pub(super) ids: RequestIds,
}

/// Answers a request below `/api`.
pub(super) async fn dispatch(State(api): State<Arc<Api>>, request: Request) -> Response {
    let caller = match api.options.authorize.authorize(request.headers()).await {
        Ok(caller) => caller,
        Err(AuthorizeError::Refused(reason)) => return reply::text(StatusCode::UNAUTHORIZED, reason),
        Err(AuthorizeError::Unavailable(reason)) => {
            warn!(reason, "whether a caller is known cannot be found out for now");
            return reply::text(StatusCode::SERVICE_UNAVAILABLE, "Service Unavailable");
        }
        Err(AuthorizeError::Failed(reason)) => {
            error!(reason, "whether a caller is known could not be found out");
            return reply::text(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error");
        }
    };
    let name = procedure_name(request.uri().path());
    let Some(procedure) = name.and_then(|name| api.table.find(&name)) else {
        return reply::not_found();
    };
    let mut response = match answer(&api, procedure, caller, request).await {
        Ok(envelope) => reply::success(envelope),
        Err(refusal) => {
            let (code, message) = (&refusal.error.code, &refusal.error.message);
            match &refusal.hidden {
                Some(hidden) => warn!(code, hidden, "a call failed"),
                None => debug!(code, message, "a call was refused"),
            }
            reply::refused(&refusal)
        }
    };
    response.extensions_mut().insert(ProcedureName(procedure.name));
    response
}

async fn answer(api: &Api, procedure: &Procedure, caller: Caller, request: Request) -> Result<String, Refusal> {
    procedure.admit(&caller).map_err(Refusal::closing)?;
    let (head, body) = request.into_parts();
    if head.method == Method::GET {
        // Where clients of the contract would put the envelope of a GET.
        if let Some(data) = query_data(head.uri.query().unwrap_or_default()) {
            open_request(data.as_bytes(), api.options.depth_limit)?;
        }
        return Err(Refusal::new(ErrorCode::MethodNotSupported, "send the call as POST"));
    }
    let Received { bytes, room } = api.bodies.receive(&head.headers, body).await?;
    let bytes = match (is_json(&head.headers), form::boundary(&head.headers)) {
        (true, _) => Some(bytes),
        (false, Some(boundary)) => Some(form::envelope(boundary, bytes).await?),
        (false, None) => None,
    };
    let input = match &bytes {
        Some(bytes) => open_request(bytes, api.options.depth_limit)?,
        None => None,
    };
    drop(bytes);
    let client = LocalClient::for_others(Arc::clone(&api.server), caller.namespace.clone());
    let trace = head.headers.get(TRACE_PARENT).and_then(|value| value.to_str().ok()?.parse().ok());
    let answer = procedure.call(client.within(trace), &caller, input).await;
    drop(room);
    answer
}
