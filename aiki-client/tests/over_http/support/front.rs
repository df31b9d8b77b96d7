//! A proxy that answers in its own words while its server is away.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};

use super::Served;

const LIMIT: usize = 4_000_000;

/// What a proxy says without a server: status, content type, body.
pub type Words = (u16, &'static str, &'static str);

pub const TRAEFIK: Words = (404, "text/plain; charset=utf-8", "404 page not found\n");
pub const CLOUDFLARE: Words = (521, "text/html", "<html><title>Web server is down</title></html>");
/// As a server of the contract speaks of an unknown procedure.
pub const NOT_FOUND: Words = (404, "text/plain", "Not Found");

struct State {
    server: SocketAddr,
    words: Option<Words>,
    /// How many answers are still given in those words.
    left: usize,
    spoken: usize,
    passed: BTreeSet<String>,
}

/// Passes requests on, unless it has words of its own.
pub struct Front {
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
    _served: Served,
}

impl Front {
    pub async fn of(server: SocketAddr) -> Self {
        let state = State { server, words: None, left: 0, spoken: 0, passed: BTreeSet::new() };
        let state = Arc::new(Mutex::new(state));
        let (own, http) = (Arc::clone(&state), reqwest::Client::new());
        let router = Router::new().fallback(async move |request: Request| answer(&own, &http, request).await);
        let served = Served::stub(router).await;
        Self { address: served.address, state, _served: served }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers everything in these words from now on.
    pub fn say(&self, words: Words) {
        self.say_times(words, usize::MAX);
    }

    /// Answers the next few requests in these words.
    pub fn say_times(&self, words: Words, times: usize) {
        let mut state = self.state();
        (state.words, state.left, state.spoken) = (Some(words), times, 0);
    }

    /// Passes on again.
    pub fn pass(&self) {
        self.state().words = None;
    }

    /// Another server is behind it.
    pub fn turn_to(&self, server: SocketAddr) {
        self.state().server = server;
    }

    /// How often it has said what it says at present.
    pub fn spoken(&self) -> usize {
        self.state().spoken
    }

    /// The paths of the requests that were passed on so far.
    pub fn passed(&self) -> BTreeSet<String> {
        self.state().passed.clone()
    }
}

async fn answer(state: &Mutex<State>, http: &reqwest::Client, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, LIMIT).await.unwrap();
    let server = {
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((status, kind, text)) = state.words.filter(|_| state.left > 0) {
            state.left -= 1;
            state.spoken += 1;
            return (StatusCode::from_u16(status).unwrap(), [(CONTENT_TYPE, kind)], text).into_response();
        }
        state.passed.insert(parts.uri.path().to_owned());
        state.server
    };
    let mut headers = HeaderMap::new();
    for name in [AUTHORIZATION, CONTENT_TYPE] {
        if let Some(value) = parts.headers.get(&name) {
            headers.insert(name, value.clone());
        }
    }
    let url = format!("http://{server}{}", parts.uri.path());
    let passed = async {
        let answer = http.post(url).headers(headers).body(body).send().await?;
        let (status, kind) = (answer.status(), answer.headers().get(CONTENT_TYPE).cloned());
        Ok::<_, reqwest::Error>((status, kind, answer.bytes().await?))
    };
    match passed.await {
        Ok((status, kind, body)) => {
            let kind = kind.unwrap_or_else(|| HeaderValue::from_static("text/plain"));
            (status, [(CONTENT_TYPE, kind)], Body::from(body)).into_response()
        }
        Err(_) => (StatusCode::BAD_GATEWAY, "Bad Gateway").into_response(),
    }
}
