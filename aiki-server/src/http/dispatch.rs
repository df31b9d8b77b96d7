//! One call from its first check to its answer.

use std::sync::Arc;

use aiki_wire::envelope::open_request;
use aiki_wire::error::ErrorCode;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use axum::response::Response;
use tracing::{debug, error, warn};

use super::body::Bodies;
use super::call::{is_json, procedure_name};
use super::caller::{AuthorizeError, Caller};
use super::options::RouterOptions;
use super::procedure::Table;
use super::refusal::Refusal;
use super::reply;
use super::request_id::RequestIds;
use crate::local_client::LocalClient;
use crate::server::Inner;

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
        Err(AuthorizeError::Failed(reason)) => {
            error!(reason, "whether a caller is known could not be found out");
            return reply::text(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error");
        }
    };
    let Some(name) = procedure_name(request.uri().path()).filter(|name| api.table.find(name).is_some()) else {
        return reply::not_found();
    };
    match answer(&api, caller, &name, request).await {
        Ok(envelope) => reply::success(envelope),
        Err(refusal) => {
            let (code, message, hidden) = (&refusal.error.code, &refusal.error.message, &refusal.hidden);
            match hidden {
                Some(hidden) => warn!(procedure = name, code, hidden, "a call failed"),
                None => debug!(procedure = name, code, message, "a call was refused"),
            }
            reply::refused(&refusal)
        }
    }
}

async fn answer(api: &Api, caller: Caller, name: &str, request: Request) -> Result<String, Refusal> {
    let Some(procedure) = api.table.find(name) else {
        return Err(Refusal::not_found("there is no such procedure"));
    };
    if caller.role < procedure.role {
        let (has, needs) = (caller.role.as_str(), procedure.role.as_str());
        let told = format!("{name} is for the role {needs}, the caller has the role {has}: use a key of that role");
        return Err(Refusal::new(ErrorCode::Forbidden, told).closing());
    }
    let (head, body) = request.into_parts();
    if head.method == Method::GET {
        return Err(Refusal::new(ErrorCode::MethodNotSupported, "send the call as POST"));
    }
    let received = api.bodies.receive(&head.headers, body).await?;
    let input = match is_json(&head.headers) {
        true => open_request(&received.bytes, api.options.depth_limit)?,
        false => None,
    };
    let client = LocalClient::for_others(Arc::clone(&api.server), caller.namespace);
    procedure.call(client, input).await
}
