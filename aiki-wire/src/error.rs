//! How a refusal travels (contract, section 1.4).

use aiki_core::ServerError;
use serde::{Deserialize, Serialize};

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $status:literal;)*) => {
        /// What callers branch on.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum ErrorCode {
            $($(#[$doc])* $name,)*
        }

        impl ErrorCode {
            /// Every code.
            pub const ALL: &'static [ErrorCode] = &[$(ErrorCode::$name,)*];

            /// The code's text on the wire.
            pub fn as_str(self) -> &'static str {
                match self { $(ErrorCode::$name => $text,)* }
            }

            /// The HTTP status that goes with it.
            pub fn status(self) -> u16 {
                match self { $(ErrorCode::$name => $status,)* }
            }

            /// The code with this text.
            pub fn parse(text: &str) -> Option<Self> {
                match text { $($text => Some(ErrorCode::$name),)* _ => None }
            }
        }
    };
}

codes! {
    /// The request is wrong, or the run or task cannot do that where it stands.
    BadRequest = "BAD_REQUEST", 400;
    /// The caller is not known.
    Unauthorized = "UNAUTHORIZED", 401;
    /// The caller is known and may not do that.
    Forbidden = "FORBIDDEN", 403;
    /// No such run, task, schedule or reference.
    NotFound = "NOT_FOUND", 404;
    /// A procedure was asked for with GET.
    MethodNotSupported = "METHOD_NOT_SUPPORTED", 405;
    /// The request did not arrive in time.
    Timeout = "TIMEOUT", 408;
    /// The run's revision is not the one that the caller expected.
    RevisionConflict = "WORKFLOW_RUN_REVISION_CONFLICT", 409;
    /// The reference id belongs to a run with another input.
    ReferenceConflict = "WORKFLOW_RUN_REFERENCE_CONFLICT", 409;
    /// The run has ended.
    RunTerminated = "WORKFLOW_RUN_TERMINATED", 409;
    /// The task changed between reading and writing.
    TaskStateConflict = "TASK_STATE_CONFLICT", 409;
    /// The reference id or the definition belongs to another schedule.
    ScheduleConflict = "SCHEDULE_CONFLICT", 409;
    /// The claim under which the worker wrote is gone. Not in the contract.
    ClaimLost = "WORKFLOW_RUN_CLAIM_LOST", 409;
    /// The request is larger than the server takes.
    PayloadTooLarge = "PAYLOAD_TOO_LARGE", 413;
    /// Too many requests.
    TooManyRequests = "TOO_MANY_REQUESTS", 429;
    /// The server's own fault.
    Internal = "INTERNAL_SERVER_ERROR", 500;
    /// The server or its store is out of order for now.
    Unavailable = "SERVICE_UNAVAILABLE", 503;
}

/// The data of an error envelope. No other keys may stand beside these: clients of the contract would
/// not know it for an error.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WireError {
    /// Always false: no error of this API is declared by a schema.
    pub defined: bool,
    /// What callers branch on.
    pub code: String,
    /// The HTTP status.
    pub status: u16,
    /// For people.
    pub message: String,
    /// Details for our own client; clients of the contract never look at it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Box<serde_json::value::RawValue>>,
}

impl WireError {
    /// An error of the contract.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { defined: false, code: code.as_str().into(), status: code.status(), message: message.into(), data: None }
    }
}

/// The code under which a refusal travels.
pub fn code_of(error: &ServerError) -> ErrorCode {
    match error {
        ServerError::RunNotFound(_)
        | ServerError::ReferenceNotFound { .. }
        | ServerError::TaskNotFound(_)
        | ServerError::ScheduleNotFound(_) => ErrorCode::NotFound,
        ServerError::ReferenceConflict { .. } => ErrorCode::ReferenceConflict,
        ServerError::RunEnded { .. } => ErrorCode::RunTerminated,
        ServerError::IllegalTransition(_) | ServerError::Invalid(_) | ServerError::Unsupported { .. } => {
            ErrorCode::BadRequest
        }
        ServerError::RevisionConflict { .. } => ErrorCode::RevisionConflict,
        ServerError::TaskStateConflict(_) => ErrorCode::TaskStateConflict,
        ServerError::Forbidden(_) => ErrorCode::Forbidden,
        ServerError::ClaimLost(_) => ErrorCode::ClaimLost,
        ServerError::ScheduleConflict { .. } => ErrorCode::ScheduleConflict,
        ServerError::Unavailable(_) => ErrorCode::Unavailable,
        ServerError::Unauthorized(_) => ErrorCode::Unauthorized,
        ServerError::Internal(_) => ErrorCode::Internal,
    }
}
