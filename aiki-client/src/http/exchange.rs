//! One request and its answer.

use std::error::Error as _;
use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aiki_core::ServerError;
use aiki_runtime::Outage;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Certificate, Client, Response, StatusCode, Url, redirect};
use tokio::time::Instant;

use super::failure::{Failure, failure};
use super::trust::mistrust;
use crate::config::{ClientConfig, ConfigError};

/// Connections that are kept open while idle.
const IDLE_CONNECTIONS: usize = 64;
/// Shorter than servers usually keep theirs.
const IDLE_FOR: Duration = Duration::from_secs(50);

/// A request as it is sent, as often as it takes.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// `group/name`.
    pub(crate) procedure: &'static str,
    /// The envelope.
    pub(crate) body: Arc<str>,
    /// How long the answer may take.
    pub(crate) timeout: Duration,
    /// The caller's trace context.
    pub(crate) traceparent: Option<HeaderValue>,
}

/// Sends requests, each once.
pub(crate) struct Exchange {
    client: Client,
    base: String,
    answer_limit: usize,
    sent: AtomicU64,
    outage: Mutex<Outage>,
}

impl Exchange {
    pub(crate) fn new(config: &ClientConfig) -> Result<Self, ConfigError> {
        let base = config.base_url()?;
        let bad_url = |reason: String| ConfigError::Url { url: base.clone(), reason };
        let url = Url::parse(&base).map_err(|error| bad_url(error.to_string()))?;
        if url.host_str().is_none_or(str::is_empty) {
            return Err(bad_url("it has no host".into()));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(ConfigError::Credentials);
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(bad_url("it has a query".into()));
        }
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(key) = &config.api_key {
            let bearer = HeaderValue::from_str(&format!("Bearer {}", key.reveal()));
            let mut bearer = bearer.map_err(|_| ConfigError::ApiKey)?;
            bearer.set_sensitive(true);
            headers.insert(AUTHORIZATION, bearer);
        }
        let mut builder = Client::builder()
            .default_headers(headers)
            .user_agent(concat!("aiki-rust/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(config.connect_timeout)
            .pool_max_idle_per_host(IDLE_CONNECTIONS)
            .pool_idle_timeout(IDLE_FOR)
            .tcp_keepalive(IDLE_FOR)
            // A key must not travel on to where somebody points.
            .redirect(redirect::Policy::none());
        if let Some(path) = &config.ca_file {
            let refuse = |reason: String| ConfigError::CaFile { path: path.clone(), reason };
            if url.scheme() != "https" {
                return Err(refuse("the url is not https".into()));
            }
            let pem = fs::read(path).map_err(|error| refuse(error.to_string()))?;
            let certificates = Certificate::from_pem_bundle(&pem).map_err(|error| refuse(error.to_string()))?;
            if certificates.is_empty() {
                return Err(refuse("it has no certificate".into()));
            }
            builder = builder.tls_certs_only(certificates);
        }
        let client = builder.build().map_err(|error| ConfigError::Client(causes(error)))?;
        Ok(Self { client, base, answer_limit: config.answer_limit, sent: AtomicU64::new(0), outage: Mutex::default() })
    }

    /// The server's address.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    /// How many requests were sent so far.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Sends a request once; the body of a good answer.
    pub(crate) async fn once(&self, request: &Request) -> Result<Vec<u8>, Failure> {
        let url = format!("{}/api/{}", self.base, request.procedure);
        let mut builder = self.client.post(url).timeout(request.timeout).body(request.body.to_string());
        if let Some(traceparent) = &request.traceparent {
            builder = builder.header("traceparent", traceparent.clone());
        }
        self.sent.fetch_add(1, Ordering::Relaxed);
        let response = builder.send().await.map_err(|error| self.no_answer(error))?;
        let (status, headers) = (response.status(), response.headers());
        let json = headers.get(CONTENT_TYPE).is_none_or(|kind| kind.as_bytes().starts_with(b"application/json"));
        let after = headers.get(RETRY_AFTER).and_then(|after| after.to_str().ok()?.trim().parse().ok());
        let body = self.read(response).await?;
        match status {
            StatusCode::OK if json => Ok(body),
            _ => Err(failure(&self.base, status, json, after.map(Duration::from_secs), &body)),
        }
    }

    /// Says when the server stops to answer, now and then while it does not, and when it does again.
    pub(super) fn note(&self, procedure: &'static str, answer: &Result<Vec<u8>, Failure>) {
        let failed = match answer {
            Err(Failure::Unsent { reason, .. } | Failure::Lost(reason)) => Some(reason),
            _ => None,
        };
        let now = Instant::now().into_std();
        let mut outage = self.outage.lock().unwrap_or_else(PoisonError::into_inner);
        let told = if failed.is_some() { outage.failed(now) } else { outage.answered(now) };
        drop(outage);
        let (Some(lasted), server) = (told, &self.base) else { return };
        let seconds = lasted.as_secs();
        match failed {
            Some(error) => {
                tracing::warn!(server, procedure, error, seconds, "the server does not answer; trying again")
            }
            None => tracing::info!(server, seconds, "the server answers again"),
        }
    }

    fn no_answer(&self, error: reqwest::Error) -> Failure {
        match mistrust(&error, &self.base) {
            Some(text) => Failure::Refused(ServerError::Unauthorized(text)),
            None if error.is_connect() => Failure::Unsent { reason: causes(error), after: None },
            None => Failure::Lost(causes(error)),
        }
    }

    async fn read(&self, mut response: Response) -> Result<Vec<u8>, Failure> {
        let mut body = Vec::new();
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) if body.len() + chunk.len() > self.answer_limit => {
                    return Err(Failure::Foreign(format!(
                        "the answer has more than {} bytes: ask for less, or raise `answerLimit`",
                        self.answer_limit
                    )));
                }
                Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                Ok(None) => return Ok(body),
                Err(error) => return Err(Failure::Lost(causes(error))),
            }
        }
    }
}

/// The causes of an error, down to the first: the text of its own is "error sending request", with an address that
/// whoever tells it has named already.
fn causes(error: reqwest::Error) -> String {
    let error = error.without_url();
    let (mut told, mut cause) = (String::new(), error.source());
    while let Some(error) = cause {
        let more = error.to_string();
        if !told.contains(&more) {
            let between = if told.is_empty() { "" } else { ": " };
            told = format!("{told}{between}{more}");
        }
        cause = error.source();
    }
    if told.is_empty() { error.to_string() } else { told }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Lines {
        fn take(&self) -> String {
            String::from_utf8(std::mem::take(&mut *self.0.lock().unwrap())).unwrap()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_hears_at_once_that_the_server_is_away_and_when_it_is_back() {
        let lines = Lines::default();
        let writer = lines.clone();
        let log = tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false).finish();
        let _guard = tracing::subscriber::set_default(log);
        let exchange = Exchange::new(&ClientConfig::new("localhost:9090")).unwrap();
        let away = Err(Failure::Unsent { reason: "connection refused".into(), after: None });
        exchange.note("run/getV1", &away);
        let first = lines.take();
        for part in ["WARN", "http://localhost:9090", "connection refused", "trying again", "seconds=0"] {
            assert!(first.contains(part), "{part}: {first}");
        }
        for _ in 0..58 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            exchange.note("run/getV1", &away);
        }
        let later = lines.take();
        assert!(later.lines().count() == 1 && later.contains("seconds=30"), "{later}");
        exchange.note("run/getV1", &Err(Failure::Missing));
        exchange.note("run/getV1", &Ok(Vec::new()));
        let back = lines.take();
        assert!(back.lines().count() == 1 && back.contains("INFO") && back.contains("seconds=58"), "{back}");
    }
}
