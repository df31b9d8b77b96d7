//! What goes into handlers and comes out of them.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// A type whose values are recorded: the inputs and outputs of tasks and workflows.
///
/// Nobody needs to implement it: it holds for everything that is `Send`, owns its data and derives
/// `Serialize` and `Deserialize`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be an input or output of a task or workflow: it has to implement `serde::Serialize` and \
               `serde::Deserialize`, be `Send` and own its data",
    label = "`{Self}` lacks one of them: is it `#[derive(Serialize, Deserialize)]`?"
)]
pub trait Durable: Serialize + DeserializeOwned + Send + 'static {}

#[diagnostic::do_not_recommend]
impl<T: Serialize + DeserializeOwned + Send + 'static> Durable for T {}

/// What handlers return: a `Result`, under whatever name.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be what a task or workflow returns",
    label = "return a `Result<Output, Error>`"
)]
pub trait HandlerResult {
    /// The type of what is returned when all went well.
    type Output;
    /// The type of what is returned otherwise.
    type Error;
}

impl<O, E> HandlerResult for Result<O, E> {
    type Output = O;
    type Error = E;
}
