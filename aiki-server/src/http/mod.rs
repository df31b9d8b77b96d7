//! The server over HTTP: the contract's procedures and this implementation's own, for any axum app.
//!
//! [`Server::router`](crate::Server::router) answers with the defaults of [`RouterOptions`];
//! [`Server::router_with`](crate::Server::router_with) takes others. The router can be nested under a prefix or
//! merged. It has a fallback of its own, so an app that has one too calls `reset_fallback()` on it first.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use aiki_server::Server;
//!
//! let server = Server::builder().start().await?;
//! let app: axum::Router = axum::Router::new().nest("/aiki", server.router());
//! # drop(app);
//! # server.close().await;
//! # Ok(())
//! # }
//! ```
//!
//! A call is checked in this order: caller (401), procedure (404), role (403), body (408, 413, 400), method (405),
//! input (400). Every procedure is one line of a table: `contract` has those that other implementations speak.

mod body;
mod call;
mod caller;
mod contract;
mod cors;
mod dispatch;
mod form;
mod native;
mod options;
mod procedure;
mod refusal;
mod reply;
mod request_id;
mod router;
#[cfg(all(test, feature = "keys"))]
mod tenants;
#[cfg(all(test, feature = "keys"))]
mod walk;

pub use caller::{Authorize, AuthorizeError, Caller, Everyone, Role};
pub use dispatch::ProcedureName;
pub use options::RouterOptions;

/// All procedures, for those who must leave none out.
#[doc(hidden)]
pub fn procedure_names() -> Vec<&'static str> {
    let all = contract::procedures().into_iter().chain(native::procedures());
    all.map(|procedure| procedure.name).collect()
}
