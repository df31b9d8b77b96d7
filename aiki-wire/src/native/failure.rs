//! Refusals that come back on our client as what they were on the server.

use aiki_core::ServerError;
use serde_json::value::to_raw_value;

use crate::error::{ErrorCode, WireError, code_of};

/// A refusal as it travels: code and message for everybody, the error itself as `data` for our client.
pub fn refusal(error: &ServerError) -> WireError {
    WireError { data: to_raw_value(error).ok(), ..WireError::new(code_of(error), error.to_string()) }
}

/// The refusal that travelled. Without data that can be read, the code decides.
pub fn refused(error: WireError) -> ServerError {
    let data = error.data.as_ref().and_then(|data| serde_json::from_str(data.get()).ok());
    data.unwrap_or_else(|| by_code(ErrorCode::parse(&error.code), error.status, error.message))
}

fn by_code(code: Option<ErrorCode>, status: u16, message: String) -> ServerError {
    match code {
        Some(ErrorCode::Unauthorized | ErrorCode::Forbidden) => ServerError::Unauthorized(message),
        Some(ErrorCode::Unavailable | ErrorCode::Timeout | ErrorCode::TooManyRequests) => {
            ServerError::Unavailable(message)
        }
        Some(ErrorCode::Internal) => ServerError::Internal(message),
        Some(_) => ServerError::Invalid(message),
        None if status == 429 || status == 408 || (502..=504).contains(&status) => ServerError::Unavailable(message),
        None if status == 401 || status == 403 => ServerError::Unauthorized(message),
        None if status >= 500 => ServerError::Internal(message),
        None => ServerError::Invalid(message),
    }
}

#[cfg(test)]
mod tests {
    use aiki_core::name::WorkflowKey;
    use aiki_core::run::RunStatus;
    use aiki_core::schedule::ScheduleId;
    use aiki_core::{RunId, TaskId};

    use super::*;

    #[test]
    fn every_refusal_comes_back_as_itself() {
        let run = RunId::from_bits(7 << 24);
        for error in [
            ServerError::RunNotFound(run),
            ServerError::ReferenceNotFound { workflow: WorkflowKey::user("a", "1"), reference_id: "r".into() },
            ServerError::ReferenceConflict { reference_id: "r".into(), run },
            ServerError::RunEnded { run, status: RunStatus::Cancelled },
            ServerError::TaskNotFound(TaskId::from_bits(1)),
            ServerError::IllegalTransition("no".into()),
            ServerError::RevisionConflict { run, expected: 1, actual: 2 },
            ServerError::TaskStateConflict(TaskId::from_bits(1)),
            ServerError::Forbidden("no".into()),
            ServerError::Unsupported { operation: "a".into(), reason: "b".into(), instead: "c".into() },
            ServerError::Invalid("no".into()),
            ServerError::ClaimLost(run),
            ServerError::ScheduleNotFound("s".into()),
            ServerError::ScheduleConflict { schedule: ScheduleId::from_bits(1), reason: "no".into() },
            ServerError::Unavailable("no".into()),
            ServerError::Unauthorized("no".into()),
            ServerError::Internal("no".into()),
        ] {
            let text = serde_json::to_string(&refusal(&error)).unwrap();
            assert_eq!(refused(serde_json::from_str(&text).unwrap()), error, "{text}");
        }
    }

    #[test]
    fn a_refusal_of_another_server_is_judged_by_its_code() {
        let of = |code: &str, status| {
            refused(WireError { defined: false, code: code.into(), status, message: "m".into(), data: None })
        };
        assert_eq!(of("SERVICE_UNAVAILABLE", 503), ServerError::Unavailable("m".into()));
        assert_eq!(of("BAD_REQUEST", 400), ServerError::Invalid("m".into()));
        assert_eq!(of("SOMETHING_NEW", 502), ServerError::Unavailable("m".into()));
        assert_eq!(of("SOMETHING_NEW", 403), ServerError::Unauthorized("m".into()));
    }
}
