//! What an answer says that is no good one.
//!
//! Only an error envelope is the server's own word. Whatever else is there may come from something in between.

use std::time::Duration;

use aiki_core::ServerError;
use aiki_wire::error::{ErrorCode, WireError};
use aiki_wire::native::refused;
use reqwest::StatusCode;
use serde::Deserialize;

/// The longest text of an answer that is repeated in an error, in bytes.
const QUOTE: usize = 300;
/// What a server of the contract says of a procedure that it does not know, as a text with 404.
const NOT_FOUND: &[u8] = b"Not Found";

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Failure {
    /// The request did not reach the server, or the server did not look at it. `after`: when it wants to be asked
    /// again.
    Unsent { reason: String, after: Option<Duration> },
    /// Whether the request was carried out is open.
    Lost(String),
    /// The server refused it.
    Refused(ServerError),
    /// The server refused it in the contract's terms.
    Coded(ErrorCode, String),
    /// The server does not know the procedure; or something in between speaks as a server would.
    Missing,
    /// The answer is not one of an Aiki server, or not one that this client can read. Whether the request was carried
    /// out is open, and the next one will hardly fare better.
    Foreign(String),
}

#[derive(Deserialize)]
struct ErrorEnvelope {
    json: WireError,
}

/// What an answer that is no good one says. `json`: by its content type.
pub(super) fn failure(base: &str, status: StatusCode, json: bool, after: Option<Duration>, body: &[u8]) -> Failure {
    let envelope = json.then(|| serde_json::from_slice::<ErrorEnvelope>(body).ok()).flatten();
    let told = match &envelope {
        Some(envelope) => envelope.json.message.clone(),
        None => String::from_utf8_lossy(&body[..body.len().min(QUOTE)]).trim().to_owned(),
    };
    let said = format!("{base} answered {status}: {told}");
    match status {
        StatusCode::UNAUTHORIZED => Failure::Refused(ServerError::Unauthorized(format!(
            "{said}. Give a valid `apiKey` in the client's configuration; the server makes one"
        ))),
        StatusCode::FORBIDDEN => {
            Failure::Refused(ServerError::Unauthorized(format!("{said}. Use an `apiKey` of the role that it names")))
        }
        // The address is named by whoever tells it.
        StatusCode::TOO_MANY_REQUESTS => Failure::Unsent { reason: format!("it answered {status}: {told}"), after },
        StatusCode::REQUEST_TIMEOUT
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT => Failure::Lost(format!("it answered {status}: {told}")),
        // The contract's own word; proxies that miss the server have others.
        StatusCode::NOT_FOUND if envelope.is_none() && body.trim_ascii() == NOT_FOUND => Failure::Missing,
        StatusCode::NOT_FOUND if envelope.is_none() => {
            Failure::Unsent { reason: format!("it answered {status}, which is not an Aiki server's: {told}"), after }
        }
        _ if envelope.is_none() && status.is_server_error() => Failure::Lost(format!("it answered {status}: {told}")),
        _ => match envelope {
            Some(ErrorEnvelope { json: WireError { code, message, data: None, .. } })
                if let Some(code) = ErrorCode::parse(&code) =>
            {
                Failure::Coded(code, message)
            }
            Some(envelope) => Failure::Refused(refused(envelope.json)),
            None => Failure::Foreign(format!(
                "{said}. Is `url` the address of an Aiki server, and nothing else in between?"
            )),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(status: u16, json: bool, body: &str) -> Failure {
        failure("http://here", StatusCode::from_u16(status).unwrap(), json, None, body.as_bytes())
    }

    fn envelope(code: &str, status: u16) -> String {
        format!(r#"{{"json":{{"defined":false,"code":"{code}","status":{status},"message":"so"}}}}"#)
    }

    #[test]
    fn a_proxy_that_misses_its_server_is_a_server_that_was_not_reached() {
        let html = "<html><head><title>404 Not Found</title></head><body>nginx</body></html>";
        for (json, body) in [
            (false, "404 page not found\n"),
            (false, html),
            (false, ""),
            (true, ""),
            (true, r#"{"message":"no Route matched with those values"}"#),
        ] {
            let told = judged(404, json, body);
            assert!(matches!(&told, Failure::Unsent { reason, .. } if reason.contains("404")), "{body}: {told:?}");
        }
    }

    #[test]
    fn the_contracts_word_for_an_unknown_procedure_is_known() {
        assert_eq!(judged(404, false, "Not Found"), Failure::Missing);
        assert_eq!(judged(404, false, "Not Found\r\n"), Failure::Missing);
        let run = judged(404, true, &envelope("NOT_FOUND", 404));
        assert_eq!(run, Failure::Coded(ErrorCode::NotFound, "so".into()), "an unknown run is something else");
    }

    #[test]
    fn whatever_a_gateway_says_of_a_server_leaves_the_request_open() {
        for status in (500..=504).chain(520..=530).chain([408, 599]) {
            let told = judged(status, false, "<html>Web server is down</html>");
            assert!(matches!(&told, Failure::Lost(text) if text.contains("is down")), "{status}: {told:?}");
        }
        let own = judged(500, true, &envelope("INTERNAL_SERVER_ERROR", 500));
        assert_eq!(own, Failure::Coded(ErrorCode::Internal, "so".into()), "the server's own fault is its own word");
    }

    #[test]
    fn a_page_in_place_of_an_answer_is_no_word_of_the_server() {
        for status in [200, 302, 400, 405, 409, 413, 418] {
            let told = judged(status, false, "<html>sign in</html>");
            assert!(matches!(&told, Failure::Foreign(text) if text.contains("http://here")), "{status}: {told:?}");
            let json = judged(status, true, r#"{"status":"maintenance"}"#);
            assert!(matches!(json, Failure::Foreign(_)), "{status}: {json:?}");
        }
        assert_eq!(
            judged(409, true, &envelope("WORKFLOW_RUN_TERMINATED", 409)),
            Failure::Coded(ErrorCode::RunTerminated, "so".into())
        );
    }
}
