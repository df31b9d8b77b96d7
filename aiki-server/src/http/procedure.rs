//! Procedures as a table.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use aiki_wire::envelope::close_answer;
use aiki_wire::error::ErrorCode;
use aiki_wire::read::{Input, Invalid, by_serde};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::caller::{Caller, Role};
use super::refusal::Refusal;
use crate::local_client::LocalClient;

type Answering = Pin<Box<dyn Future<Output = Result<String, Refusal>> + Send>>;
type Handler = Arc<dyn Fn(LocalClient, &Caller, Option<&RawValue>) -> Result<Answering, Refusal> + Send + Sync>;

/// One procedure.
pub(crate) struct Procedure {
    pub(super) name: &'static str,
    pub(super) role: Role,
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
    procedure(name, role, In::input, |_| Role::Client, call)
}

/// As [`contract`], where some inputs need a higher role than the procedure itself.
pub(crate) fn contract_by_input<In, Out, F, Fut>(
    name: &'static str,
    role: Role,
    needs: fn(&In) -> Role,
    call: F,
) -> Procedure
where
    In: Input + 'static,
    Out: Serialize,
    F: Fn(LocalClient, In) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Out, Refusal>> + Send + 'static,
{
    procedure(name, role, In::input, needs, call)
}

/// Makes a procedure of this implementation's own. As [`contract`], with an input that serde reads.
pub(crate) fn native<In, Out, F, Fut>(name: &'static str, role: Role, call: F) -> Procedure
where
    In: DeserializeOwned + 'static,
    Out: Serialize,
    F: Fn(LocalClient, In) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Out, Refusal>> + Send + 'static,
{
    procedure(name, role, by_serde::<In>, |_| Role::Client, call)
}

fn procedure<In, Out, F, Fut>(
    name: &'static str,
    role: Role,
    read: fn(Option<&RawValue>) -> Result<In, Invalid>,
    needs: fn(&In) -> Role,
    call: F,
) -> Procedure
where
    In: 'static,
    Out: Serialize,
    F: Fn(LocalClient, In) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Out, Refusal>> + Send + 'static,
{
    let handler = move |client: LocalClient, caller: &Caller, input: Option<&RawValue>| {
        let input = read(input)?;
        check(name, needs(&input), caller)?;
        let answering = call(client, input);
        let answering: Answering = Box::pin(async move {
            let answer = answering.await?;
            close_answer(&answer).map_err(|error| Refusal::internal(error.to_string()))
        });
        Ok(answering)
    };
    Procedure { name, role, handler: Arc::new(handler) }
}

fn check(name: &str, needed: Role, caller: &Caller) -> Result<(), Refusal> {
    if caller.role >= needed {
        return Ok(());
    }
    let (has, needs) = (caller.role.as_str(), needed.as_str());
    let told = format!("this call of {name} is for the role {needs}, the caller has the role {has}: use another key");
    Err(Refusal::new(ErrorCode::Forbidden, told))
}

impl Procedure {
    /// Whether the caller may call it at all.
    pub(super) fn admit(&self, caller: &Caller) -> Result<(), Refusal> {
        check(self.name, self.role, caller)
    }

    /// Validates the input and answers with the body of the success.
    pub(super) async fn call(
        &self,
        client: LocalClient,
        caller: &Caller,
        input: Option<Box<RawValue>>,
    ) -> Result<String, Refusal> {
        let answering = (self.handler)(client, caller, input.as_deref())?;
        drop(input);
        answering.await
    }
}

/// All procedures, by their name.
pub(crate) struct Table(HashMap<&'static str, Procedure>);

impl Table {
    pub(super) fn new(groups: impl IntoIterator<Item = Vec<Procedure>>) -> Self {
        Self(groups.into_iter().flatten().map(|procedure| (procedure.name, procedure)).collect())
    }

    pub(super) fn find(&self, name: &str) -> Option<&Procedure> {
        self.0.get(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{contract, native};

    #[test]
    fn no_procedure_hides_another() {
        let all: Vec<_> = [contract::procedures(), native::procedures()].into_iter().flatten().collect();
        let count = all.len();
        assert_eq!(Table::new([all]).0.len(), count);
    }

    #[test]
    fn what_executes_runs_is_not_for_clients() {
        let table = Table::new([contract::procedures()]);
        let role = |name| table.find(name).map(|procedure| procedure.role);
        assert_eq!(role("workflowRun/claimReadyV1"), Some(Role::Worker));
        assert_eq!(role("task/transitionStateV1"), Some(Role::Worker));
        assert_eq!(role("task/setStateV1"), Some(Role::Admin));
        assert_eq!(role("workflowRun/getByIdV1"), Some(Role::Client));
        assert_eq!(table.0.len(), 28, "the contract has 28 procedures");
    }
}
