//! What a handler may return as its error.

use std::any::type_name;
use std::error::Error;
use std::fmt;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{ChildError, ErrorObject, FailedChild, FailedTask, TaskError};
use crate::id::RunId;
use crate::payload::Payload;

/// What an error says about trying again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RetryHint {
    /// The retry strategy decides.
    #[default]
    ByStrategy,
    /// Trying again cannot help.
    Never,
    /// If the strategy allows another attempt, not before this much time has passed.
    After(Duration),
}

/// The untyped handler error: made by `?` from any `std::error::Error`.
///
/// ```
/// use aiki_core::Failure;
///
/// fn parse(text: &str) -> Result<u16, Failure> {
///     let port: u16 = text.parse()?;
///     if port == 0 {
///         return Err(Failure::non_retryable("InvalidPort", "port 0 cannot be used"));
///     }
///     Ok(port)
/// }
/// assert!(parse("http").is_err());
/// ```
///
/// Like `anyhow::Error` it does not implement `std::error::Error` itself; that is what lets it be
/// made from everything that does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    error: Box<ErrorObject>,
    retry: RetryHint,
    task: Option<Box<FailedTask>>,
    child: Option<RunId>,
}

impl Failure {
    /// An error with a name and a message.
    pub fn new(name: impl Into<String>, message: impl Into<String>) -> Self {
        Self::from_object(ErrorObject::new(name, message))
    }

    /// An error that must not be retried, whatever the strategy says.
    pub fn non_retryable(name: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(name, message).never_retry()
    }

    /// A failure from an error in a box, or from one that can be put into one, such as `anyhow::Error`:
    /// these do not implement `Error` themselves, so `?` alone does not take them. The failure that is
    /// recorded has the message and the chain of causes.
    ///
    /// ```
    /// use aiki_core::Failure;
    ///
    /// fn parse(text: &str) -> Result<u32, Box<dyn std::error::Error + Send + Sync>> {
    ///     Ok(text.parse()?)
    /// }
    /// fn body(text: &str) -> Result<u32, Failure> {
    ///     Ok(parse(text).map_err(Failure::boxed)?)
    /// }
    /// assert!(body("x").unwrap_err().to_string().contains("invalid digit"));
    /// ```
    pub fn boxed(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        let error = error.into();
        let (task, child) = (find_task(&*error).cloned(), find_child(&*error));
        let object = known(&*error).unwrap_or_else(|| ErrorObject::from_error("Error", &*error));
        Self::from_object(object).caused_by(task).caused_by_child(child)
    }

    /// The failure that was written down as `error`.
    pub fn from_object(error: ErrorObject) -> Self {
        Self { error: Box::new(error), retry: RetryHint::ByStrategy, task: None, child: None }
    }

    /// Marks this error as one that must not be retried. It speaks of the attempt that returned it: a
    /// workflow that passes a task's error on by `?` is retried by the workflow's own strategy.
    pub fn never_retry(mut self) -> Self {
        self.retry = RetryHint::Never;
        self
    }

    /// Asks for at least `delay` before the next attempt, if there is one.
    pub fn retry_after(mut self, delay: Duration) -> Self {
        self.retry = RetryHint::After(delay);
        self
    }

    /// Notes which child's failure this is.
    pub(crate) fn caused_by_child(mut self, child: Option<RunId>) -> Self {
        self.child = child;
        self
    }

    /// The child whose failure this is, when it was passed on.
    pub fn child(&self) -> Option<RunId> {
        self.child
    }

    pub(crate) fn caused_by(mut self, task: Option<FailedTask>) -> Self {
        self.task = task.map(Box::new);
        self
    }

    /// The error as it is stored.
    pub fn object(&self) -> &ErrorObject {
        &self.error
    }

    /// The error as it is stored.
    pub fn into_object(self) -> ErrorObject {
        *self.error
    }

    /// What the error says about trying again.
    pub fn retry(&self) -> RetryHint {
        self.retry
    }

    /// The task whose failure this error passes on, if it is one.
    pub fn task(&self) -> Option<&FailedTask> {
        self.task.as_deref()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl<E: Error + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        let object = known(&error).unwrap_or_else(|| ErrorObject::from_error(&short_name::<E>(), &error));
        let task = find_task(&error).cloned();
        Self::from_object(object).caused_by(task).caused_by_child(find_child(&error))
    }
}

/// An error type that handlers can return and callers get back.
///
/// Nobody needs to implement it: it holds for [`Failure`], and for every `std::error::Error` that
/// serde can write and read (derive `Serialize` and `Deserialize` on the enum).
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a handler's error",
    label = "not a handler error",
    note = "use `aiki::Failure` (made by `?` from any `std::error::Error`), or make your own error \
            implement `std::error::Error` and derive `serde::Serialize` and `serde::Deserialize`"
)]
pub trait HandlerError: Sized + Send + 'static {
    /// Writes the error down.
    fn into_failure(self) -> Failure;

    /// Reads the error back, or says that what was written down is not one of these.
    ///
    /// # Errors
    /// The error object as it was, when it does not hold a `Self`.
    fn from_object(object: ErrorObject) -> Result<Self, ErrorObject>;
}

impl HandlerError for Failure {
    fn into_failure(self) -> Failure {
        self
    }

    fn from_object(object: ErrorObject) -> Result<Self, ErrorObject> {
        Ok(Failure::from_object(object))
    }
}

#[diagnostic::do_not_recommend]
impl<E> HandlerError for E
where
    E: Error + Serialize + DeserializeOwned + Send + 'static,
{
    fn into_failure(self) -> Failure {
        let mut object = ErrorObject::from_error(&short_name::<E>(), &self);
        // An error whose `Serialize` fails still arrives, as name and message.
        object.data = Payload::of(&self).ok();
        let task = find_task(&self).cloned();
        Failure::from_object(object).caused_by(task).caused_by_child(find_child(&self))
    }

    fn from_object(object: ErrorObject) -> Result<Self, ErrorObject> {
        match object.data.as_ref().map(|data| Payload::decode(Some(data))) {
            Some(Ok(error)) => Ok(error),
            _ => Err(object),
        }
    }
}

/// The last part of a type's path, without its module and without generic arguments.
fn short_name<T>() -> String {
    let full = type_name::<T>();
    let path = full.split('<').next().unwrap_or(full);
    path.rsplit("::").next().unwrap_or(path).to_owned()
}

/// An error that was already written down keeps its name and its data; that of a task or a child becomes the cause.
fn known(error: &(dyn Error + 'static)) -> Option<ErrorObject> {
    let written = error.downcast_ref::<ErrorObject>().cloned();
    let task = || error.downcast_ref::<TaskError<Failure>>().map(TaskError::passed_on);
    let child = || error.downcast_ref::<ChildError<Failure>>().map(ChildError::passed_on);
    written.or_else(task).or_else(child)
}

/// The child whose failure an error passes on.
fn find_child(error: &(dyn Error + 'static)) -> Option<RunId> {
    std::iter::successors(Some(error), |error: &&'_ (dyn Error + 'static)| (*error).source())
        .find_map(|error| error.downcast_ref::<FailedChild>()?.run)
}

/// Looks through an error's sources for a failed task.
fn find_task<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e FailedTask> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(task) = error.downcast_ref::<FailedTask>() {
            return Some(task);
        }
        next = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::TaskId;
    use crate::name::Name;
    use serde::Deserialize;

    #[derive(Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
    enum Payment {
        #[error("declined with {code}")]
        Declined { code: u32 },
    }

    #[test]
    fn a_typed_error_comes_back_unchanged() {
        let failure = Payment::Declined { code: 51 }.into_failure();
        assert_eq!(failure.object().name, "Payment");
        assert_eq!(failure.object().message, "declined with 51");
        assert_eq!(Payment::from_object(failure.into_object()), Ok(Payment::Declined { code: 51 }));
    }

    #[test]
    fn an_error_without_content_comes_back_typed() {
        #[derive(Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
        #[error("out of stock")]
        struct OutOfStock;
        let stored = serde_json::to_string(OutOfStock.into_failure().object()).unwrap();
        let read: ErrorObject = serde_json::from_str(&stored).unwrap();
        assert_eq!(OutOfStock::from_object(read), Ok(OutOfStock));
    }

    #[test]
    fn a_foreign_error_is_not_mistaken_for_ours() {
        assert!(Payment::from_object(ErrorObject::new("TypeError", "x is undefined")).is_err());
    }

    #[test]
    fn an_anyhow_error_keeps_its_message_and_its_causes() {
        let error = anyhow::Error::from(std::io::Error::other("disk gone")).context("saving failed");
        let failure = Failure::boxed(error);
        assert_eq!(failure.object().message, "saving failed");
        assert_eq!(failure.object().cause.as_ref().unwrap().message, "disk gone");
    }

    #[test]
    fn a_task_that_failed_untyped_goes_through_the_errors_of_users() {
        #[derive(Debug, thiserror::Error)]
        enum Order {
            #[error("charging failed")]
            Charge(#[from] TaskError<Failure>),
        }
        fn charge() -> Result<(), TaskError<Failure>> {
            let task = FailedTask { id: TaskId::from_bits(7), name: Name::new("charge"), attempts: 3 };
            Err(TaskError::Failed { error: Failure::new("Declined", "no money"), task })
        }
        let by_anyhow = (|| -> anyhow::Result<()> { Ok(charge()?) })().unwrap_err();
        let by_thiserror = (|| -> Result<(), Order> { Ok(charge()?) })().unwrap_err();
        let by_hand = Failure::from(charge().unwrap_err());
        let text = "task `charge` failed after 3 attempts: no money";
        assert_eq!(by_anyhow.to_string(), text);
        assert_eq!(by_hand.object().cause.as_ref().unwrap().name, "Declined");
        assert_eq!((by_hand.object().name.as_str(), by_hand.object().message.as_str()), ("TaskError", text));
        for failure in [Failure::boxed(by_anyhow), Failure::from(by_thiserror), by_hand] {
            assert_eq!(failure.task().unwrap().name, Name::new("charge"));
        }
    }

    #[test]
    fn question_mark_keeps_the_task_that_failed() {
        let task = FailedTask { id: TaskId::from_bits(7), name: Name::new("charge"), attempts: 3 };
        let error = TaskError::Failed { error: Payment::Declined { code: 51 }, task: task.clone() };
        assert_eq!(Failure::from(error).task(), Some(&task));
        let untyped = TaskError::Failed { error: Failure::new("E", "broken"), task: task.clone() };
        assert_eq!(Failure::from(untyped).task(), Some(&task));
    }
}
