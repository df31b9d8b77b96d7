//! What a request asks for.

use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;

/// The procedure that a path names, as `group/name`; `None` when it names none. One slash at the end is
/// tolerated.
pub(super) fn procedure_name(path: &str) -> Option<String> {
    let path = path.strip_prefix("/api/")?;
    let (group, name) = path.strip_suffix('/').unwrap_or(path).split_once('/')?;
    let (group, name) = (decode(group)?, decode(name)?);
    let whole = |segment: &str| !segment.is_empty() && !segment.contains('/');
    (whole(&group) && whole(&name)).then(|| format!("{group}/{name}"))
}

/// The last `data` of a query, decoded; `None` when there is none that can be.
pub(super) fn query_data(query: &str) -> Option<String> {
    let data = query.rsplit('&').find_map(|pair| pair.strip_prefix("data="))?;
    decode(&data.replace('+', " "))
}

/// Undoes percent-encoding.
fn decode(segment: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
                let (high, low) = (digit(rest.next())?, digit(rest.next())?);
                u8::try_from(high * 16 + low).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

/// Whether the body is to be read as JSON. Of any other type but a form, the input counts as missing.
pub(super) fn is_json(headers: &HeaderMap) -> bool {
    let Some(content_type) = headers.get(CONTENT_TYPE) else { return true };
    const JSON: &[u8] = b"application/json";
    content_type.as_bytes().get(..JSON.len()).is_some_and(|start| start.eq_ignore_ascii_case(JSON))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_data_of_a_query_counts() {
        assert_eq!(query_data("data=1&x=y&data=%7B%22json%22%3A+1%7D&z").as_deref(), Some("{\"json\": 1}"));
        assert_eq!((query_data("x=data=1"), query_data("data=%"), query_data("")), (None, None, None));
    }

    #[test]
    fn a_path_names_a_procedure_or_nothing() {
        let name = |path| procedure_name(path);
        assert_eq!(name("/api/task/getByIdV1").as_deref(), Some("task/getByIdV1"));
        assert_eq!(name("/api/task/getByIdV1/").as_deref(), Some("task/getByIdV1"));
        assert_eq!(name("/api/t%61sk/getById%561").as_deref(), Some("task/getByIdV1"));
        for path in [
            "/api/",
            "/api",
            "/api/task",
            "/api/task/",
            "/api//getByIdV1",
            "/api/task//getByIdV1",
            "/api/task/getByIdV1//",
            "/api/task/getByIdV1/more",
            "/api/task%2FgetByIdV1",
            "/api/task/get%ByIdV1",
            "/api/task/get%",
            "/api/task/%FF",
        ] {
            assert_eq!(name(path), None, "{path}");
        }
    }
}
