//! Procedures as a table.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;

use aiki_wire::envelope::close_answer;
use aiki_wire::read::{Input, Invalid, by_serde};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::caller::Role;
use super::refusal::Refusal;
use crate::local_client::LocalClient;

type Answering = Pin<Box<dyn Future<Output = Result<String, Refusal>> + Send>>;
type Handler = Box<dyn Fn(LocalClient, Option<&RawValue>) -> Result<Answering, Refusal> + Send + Sync>;

/// One procedure.
pub(crate) struct Procedure {
    /// `group/name`, as in the path.
    pub(crate) name: &'static str,
    /// The least role that may call it.
    pub(crate) role: Role,
    handler: Handler,
}

/// Makes a procedure of the contract. The function gets the caller's own client, which sees the caller's
/// namespace only, and the input after its validation. An answer without content, such as `()`, is an empty
/// envelope.
pub(crate) fn contract<In, Out, F, Fut>(name: &'static str, role: Role, call: F) -> Procedure
where
    In: Input + 'static,
    Out: Serialize,
    F: Fn(LocalClient, In) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Out, Refusal>> + Send + 'static,
{
    procedure(name, role, In::input, call)
}

/// Makes a procedure of this implementation's own. As [`contract`], with an input that serde reads.
pub(crate) fn native<In, Out, F, Fut>(name: &'static str, role: Role, call: F) -> Procedure
where
    In: DeserializeOwned + 'static,
    Out: Serialize,
    F: Fn(LocalClient, In) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Out, Refusal>> + Send + 'static,
{
    procedure(name, role, by_serde::<In>, call)
}

fn procedure<In, Out, F, Fut>(
    name: &'static str,
    role: Role,
    read: fn(Option<&RawValue>) -> Result<In, Invalid>,
    call: F,
) -> Procedure
where
    In: 'static,
    Out: Serialize,
    F: Fn(LocalClient, In) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Out, Refusal>> + Send + 'static,
{
    let handler = move |client: LocalClient, input: Option<&RawValue>| {
        let answering = call(client, read(input)?);
        let answering: Answering = Box::pin(async move {
            let answer = answering.await?;
            close_answer(&answer).map_err(|error| Refusal::internal(error.to_string()))
        });
        Ok(answering)
    };
    Procedure { name, role, handler: Box::new(handler) }
}

impl Procedure {
    /// Validates the input and answers with the body of the success.
    pub(crate) async fn call(&self, client: LocalClient, input: Option<Box<RawValue>>) -> Result<String, Refusal> {
        let answering = (self.handler)(client, input.as_deref())?;
        drop(input);
        answering.await
    }
}

/// All procedures, by their name.
pub(crate) struct Table(HashMap<&'static str, Procedure>);

impl Table {
    pub(crate) fn new(groups: impl IntoIterator<Item = Vec<Procedure>>) -> Self {
        Self(groups.into_iter().flatten().map(|procedure| (procedure.name, procedure)).collect())
    }

    pub(crate) fn find(&self, name: &str) -> Option<&Procedure> {
        self.0.get(name)
    }
}
