//! Ids as servers of other makes give them.

use aiki_core::RunId;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::header::CONTENT_LENGTH;
use axum::middleware::{Next, from_fn};
use axum::response::Response;

/// Our ids have their ordinals in these bits, where others have chance.
const CHANCE: u128 = (1 << 24) - 1;
/// Added to those bits of every id that leaves the server: ids keep their order, and tell no ordinal any more.
const MOVED: u128 = 0x12_3456;
const LIMIT: usize = 4_000_000;

/// Moves the ids in all requests and answers of a router.
pub fn foreign_ids(router: Router) -> Router {
    router.layer(from_fn(translate))
}

async fn translate(request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    parts.headers.remove(CONTENT_LENGTH);
    let body = moved(body, CHANCE + 1 - MOVED).await;
    let (mut parts, body) = next.run(Request::from_parts(parts, body)).await.into_parts();
    parts.headers.remove(CONTENT_LENGTH);
    Response::from_parts(parts, moved(body, MOVED).await)
}

async fn moved(body: Body, by: u128) -> Body {
    let text = String::from_utf8(to_bytes(body, LIMIT).await.unwrap().to_vec()).unwrap();
    let mut moved = String::with_capacity(text.len());
    for word in text.split_inclusive(|c: char| !c.is_ascii_alphanumeric()) {
        let (id, end) = word.split_at(word.trim_end_matches(|c: char| !c.is_ascii_alphanumeric()).len());
        match (id.len(), id.parse::<RunId>()) {
            (26, Ok(id)) => {
                let bits = id.to_bits();
                moved += &RunId::from_bits(bits & !CHANCE | (bits + by) & CHANCE).to_string();
            }
            _ => moved += id,
        }
        moved += end;
    }
    Body::from(moved)
}
