//! Envelopes that travel in a form, as clients of the contract send them when there are files in the input.

use std::convert::Infallible;

use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use futures::stream;
use multer::Multipart;

use super::refusal::Refusal;

/// The field with the envelope.
const DATA: &str = "data";
/// At most so many fields are looked through.
const FIELDS: usize = 100;

/// What ends the fields of a form; `None` when the body is none.
pub(super) fn boundary(headers: &HeaderMap) -> Option<String> {
    multer::parse_boundary(headers.get(CONTENT_TYPE)?.to_str().ok()?).ok()
}

/// The envelope in a form. There is no place for files: an input is JSON.
pub(super) async fn envelope(boundary: String, body: Vec<u8>) -> Result<Vec<u8>, Refusal> {
    let unreadable = |error: multer::Error| Refusal::bad_request(format!("the form cannot be read: {error}"));
    let mut form = Multipart::new(stream::iter([Ok::<_, Infallible>(body)]), boundary);
    let mut data = None;
    for _ in 0..FIELDS {
        let Some(field) = form.next_field().await.map_err(unreadable)? else {
            return data.ok_or_else(|| Refusal::bad_request("the form has no field `data`: send the call as JSON"));
        };
        match field.name() {
            Some(DATA) => data = Some(field.bytes().await.map_err(unreadable)?.to_vec()),
            name => {
                let name = name.unwrap_or_default();
                let told = format!("the form has a field `{name}`: files are not stored, send a reference to them");
                return Err(Refusal::bad_request(told));
            }
        }
    }
    Err(Refusal::bad_request(format!("the form has more than {FIELDS} fields: send the call as JSON")))
}
