//! Why a call is not answered with what was asked for.

use aiki_core::ServerError;
use aiki_wire::contract::unknown::UnknownId;
use aiki_wire::envelope::Malformed;
use aiki_wire::error::{ErrorCode, WireError, code_of};
use aiki_wire::read::Invalid;

/// What the caller is told, and what the log is told besides.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) error: WireError,
    /// Not for the caller: texts of stores, of panics.
    pub(crate) hidden: Option<String>,
    /// The body was not read to its end: the connection cannot be used again.
    pub(crate) close: bool,
}

impl Refusal {
    pub(crate) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { error: WireError::new(code, message), hidden: None, close: false }
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::BadRequest, message)
    }

    /// The server's own fault.
    pub(crate) fn internal(hidden: impl Into<String>) -> Self {
        let told = "the server failed: its log tells more under the id in `x-request-id`";
        Self { hidden: Some(hidden.into()), ..Self::new(ErrorCode::Internal, told) }
    }

    /// Closes the connection after the answer.
    pub(crate) fn closing(self) -> Self {
        Self { close: true, ..self }
    }
}

impl From<ServerError> for Refusal {
    fn from(error: ServerError) -> Self {
        match &error {
            ServerError::Internal(hidden) => Self::internal(hidden.clone()),
            ServerError::Unavailable(hidden) => {
                let told = "the server is out of order for now: send the request again later";
                Self { hidden: Some(hidden.clone()), ..Self::new(ErrorCode::Unavailable, told) }
            }
            _ => Self::new(code_of(&error), error.to_string()),
        }
    }
}

impl From<Invalid> for Refusal {
    fn from(invalid: Invalid) -> Self {
        Self::bad_request(format!("the input is not valid: {invalid}"))
    }
}

impl From<Malformed> for Refusal {
    fn from(malformed: Malformed) -> Self {
        Self::bad_request(format!("the request is malformed: {malformed}"))
    }
}

impl From<UnknownId> for Refusal {
    fn from(unknown: UnknownId) -> Self {
        Self::new(ErrorCode::NotFound, unknown.to_string())
    }
}
