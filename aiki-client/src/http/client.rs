//! The client.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aiki_core::run::plan::CreateRun;
use aiki_core::server_client::{CreatedRun, SendEvent};
use aiki_core::{Report, ReportReceipt, ServerError, TraceParent};
use aiki_wire::envelope::Enveloped;
use aiki_wire::native::{Call, Negotiate, VERSION};
use reqwest::header::HeaderValue;
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};

use super::batch::Batcher;
use super::exchange::{Exchange, Request};
use super::failure::Failure;
use super::io::Io;
use super::native;
use super::send::{GaveUp, Repeat, send, undecided};
use super::session::{Dialect, Session};
use super::waits::Waits;
use crate::config::{ClientConfig, ConfigError};
use crate::plain::{Claims, Plain};

/// A procedure of the contract that a server refuses without a look at its store when it is asked without an input.
const CONTRACT: &str = "workflowRun/getStateV1";

type TraceSource = Arc<dyn Fn() -> Option<String> + Send + Sync>;

/// Speaks to a server over HTTP. Cloning is cheap; all clones are one client with one set of connections.
///
/// Requests run on a thread of the client's own. Those that did not reach the server, or whose answer was lost,
/// are sent again for a while, unless they would be carried out twice. A server that does not answer is a warning at the
/// first failure and every 30 s from then on; a line at level INFO says when it answers again.
///
/// ```no_run
/// use aiki_client::{ClientConfig, HttpClient};
/// use aiki_core::Client;
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let http = HttpClient::connect(ClientConfig::new("localhost:9090"))?;
/// let client = Client::new(http.clone());
/// println!("{} workers", client.workers().await?.len());
/// http.close().await;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct HttpClient {
    pub(crate) shared: Arc<Shared>,
    trace: Option<TraceSource>,
}

/// What all clones share.
pub(crate) struct Shared {
    pub(super) io: Io,
    pub(super) session: Session,
    pub(super) waits: Waits,
    pub(crate) claims: Claims,
    pub(super) creates: Arc<Batcher<CreateRun, CreatedRun>>,
    pub(super) reports: Arc<Batcher<Report, ReportReceipt>>,
    pub(super) events: Arc<Batcher<native::Sent, ()>>,
    exchange: Arc<Exchange>,
    request_timeout: Duration,
    retry_for: Duration,
}

#[derive(Deserialize)]
struct Answered<T> {
    json: T,
}

impl HttpClient {
    /// A client. The server is first asked with the first request, so it need not be up yet.
    ///
    /// # Errors
    /// [`ConfigError`] names what cannot be used.
    pub fn connect(config: ClientConfig) -> Result<Self, ConfigError> {
        let exchange = Arc::new(Exchange::new(&config)?);
        let io = Io::start().map_err(|error| ConfigError::Client(error.to_string()))?;
        let ClientConfig { namespace, request_timeout, retry_for, .. } = config;
        // The batches send through what they are a part of.
        let shared = Arc::new_cyclic(|shared| Shared {
            io,
            session: Session::new(namespace),
            waits: Waits::default(),
            claims: Claims::default(),
            creates: native::creates(shared.clone()),
            reports: native::reports(shared.clone()),
            events: native::events(shared.clone()),
            exchange,
            request_timeout,
            retry_for,
        });
        Ok(Self { shared, trace: None })
    }

    /// Asks `source` before each request for the caller's W3C trace context, and sends it as `traceparent`. A
    /// request that carries calls of several callers has none.
    pub fn traceparent(mut self, source: impl Fn() -> Option<String> + Send + Sync + 'static) -> Self {
        self.trace = Some(Arc::new(source));
        self
    }

    /// Asks the server what it speaks, which the first request does otherwise.
    ///
    /// # Errors
    /// [`ServerError::Unavailable`] when it cannot be reached, [`ServerError::Unauthorized`] when it does not
    /// accept the key.
    pub async fn check(&self) -> Result<(), ServerError> {
        self.dialect().await.map(drop)
    }

    /// How many requests were sent so far, repeated ones included.
    pub fn requests(&self) -> u64 {
        self.shared.exchange.sent()
    }

    /// Ends the client and its connections. What is under way answers [`ServerError::Unavailable`], and so does
    /// all that comes later. Whether requests under way were carried out is open.
    pub async fn close(&self) {
        self.shared.io.close().await;
    }

    /// What the server speaks.
    pub(super) async fn dialect(&self) -> Result<Dialect, ServerError> {
        if let Some(dialect) = self.shared.session.dialect(!self.shared.claims.is_empty()) {
            return Ok(dialect);
        }
        let shared = Arc::clone(&self.shared);
        self.shared.io.run(async move { shared.dialect().await }).await
    }

    /// Calls a procedure of our own. Dropping the future gives up the request.
    pub(super) async fn call<C: Call>(&self, call: C, repeat: Repeat) -> Result<C::Answer, ServerError> {
        self.call_for(call, repeat, Duration::ZERO).await
    }

    /// The same for one that the server may answer `wait` later.
    pub(super) async fn call_for<C: Call>(
        &self,
        call: C,
        repeat: Repeat,
        wait: Duration,
    ) -> Result<C::Answer, ServerError> {
        let (shared, traceparent) = (Arc::clone(&self.shared), self.trace_context());
        let work = async move {
            shared.dialect().await?;
            shared.call_for(&call, repeat, wait, traceparent).await
        };
        self.shared.io.run(work).await
    }

    /// How long a long poll may last.
    pub(super) async fn max_wait(&self) -> Result<Duration, ServerError> {
        Ok(match self.dialect().await? {
            Dialect::Native { max_wait } => max_wait,
            Dialect::Plain => Duration::ZERO,
        })
    }

    /// How to speak to the server when it knows the plain contract only.
    pub(super) async fn plain(&self) -> Result<Option<Plain>, ServerError> {
        Ok((self.dialect().await? == Dialect::Plain).then(|| Plain::new(self.clone())))
    }

    /// Calls a procedure of the contract.
    pub(crate) async fn post<A: DeserializeOwned + Send + 'static>(
        &self,
        procedure: &'static str,
        body: String,
        repeat: Repeat,
        wait: Duration,
    ) -> Result<A, GaveUp> {
        let (shared, traceparent) = (Arc::clone(&self.shared), self.trace_context());
        let work = async move { Ok(shared.send(procedure, body, repeat, wait, traceparent).await) };
        self.shared.io.run(work).await.unwrap_or_else(|error| Err(GaveUp::refused(error)))
    }

    pub(super) fn trace_parent(&self) -> Option<TraceParent> {
        self.trace.as_ref()?()?.parse().ok()
    }

    pub(super) fn trace_context(&self) -> Option<HeaderValue> {
        let context = self.trace.as_ref()?()?;
        HeaderValue::from_str(&context).ok()
    }
}

impl Shared {
    /// What the server speaks.
    pub(super) async fn dialect(&self) -> Result<Dialect, ServerError> {
        if let Some(dialect) = self.session.dialect(!self.claims.is_empty()) {
            return Ok(dialect);
        }
        let call = Negotiate { versions: vec![VERSION] };
        match self.exchange(&call, Repeat::Safe, Duration::ZERO, None).await {
            Ok(answer) => self.session.agreed(&answer),
            Err(GaveUp { failure: Failure::Missing, .. }) => self.confirm(&call).await,
            Err(gave_up) => Err(gave_up.into_error(&self.exchange)),
        }
    }

    /// What is there that does not know our procedures? A server of the plain contract knows those of the contract; a
    /// proxy that misses its server knows none. Our own are asked for once more afterwards: a server may have come
    /// back just then.
    async fn confirm(&self, call: &Negotiate) -> Result<Dialect, ServerError> {
        let asked = self.send::<IgnoredAny>(CONTRACT, "{}".into(), Repeat::Safe, Duration::ZERO, None).await;
        match asked.map_err(|gave_up| gave_up.failure) {
            Ok(_) | Err(Failure::Coded(..)) => {}
            Err(Failure::Refused(error)) if !matches!(error, ServerError::Unauthorized(_)) => {}
            Err(Failure::Missing) => {
                return Err(ServerError::Unavailable(format!(
                    "{} knows no procedure of an Aiki server: is the server up, and `url` its address?",
                    self.exchange.base()
                )));
            }
            Err(failure) => return Err(GaveUp { failure, lost_before: false }.into_error(&self.exchange)),
        }
        match self.exchange(call, Repeat::Safe, Duration::ZERO, None).await {
            Ok(answer) => self.session.agreed(&answer),
            Err(GaveUp { failure: Failure::Missing, .. }) => {
                tracing::info!(server = self.exchange.base(), "the server speaks the plain contract only");
                self.session.note(Dialect::Plain);
                Ok(Dialect::Plain)
            }
            Err(gave_up) => Err(gave_up.into_error(&self.exchange)),
        }
    }

    /// How long a long poll may last.
    pub(super) async fn max_wait(&self) -> Result<Duration, ServerError> {
        match self.dialect().await? {
            Dialect::Native { max_wait } => Ok(max_wait),
            Dialect::Plain => Ok(Duration::ZERO),
        }
    }

    /// Calls a procedure of our own that the server may answer `wait` later.
    pub(super) async fn call_for<C: Call>(
        &self,
        call: &C,
        repeat: Repeat,
        wait: Duration,
        traceparent: Option<HeaderValue>,
    ) -> Result<C::Answer, ServerError> {
        self.try_call(call, repeat, wait, traceparent).await.map_err(|gave_up| gave_up.into_error(&self.exchange))
    }

    /// The same; a failure says more.
    pub(super) async fn try_call<C: Call>(
        &self,
        call: &C,
        repeat: Repeat,
        wait: Duration,
        traceparent: Option<HeaderValue>,
    ) -> Result<C::Answer, GaveUp> {
        let answer = self.exchange(call, repeat, wait, traceparent.clone()).await;
        if !matches!(&answer, Err(GaveUp { failure: Failure::Missing, .. })) {
            return answer;
        }
        // Somebody else answers, or an older server. What is agreed anew decides.
        self.session.forget();
        match self.dialect().await {
            Ok(Dialect::Native { .. }) => self.exchange(call, repeat, wait, traceparent).await,
            Ok(Dialect::Plain) => {
                let reason = "it speaks the plain contract only from now on".into();
                Err(GaveUp { failure: Failure::Unsent { reason, after: None }, lost_before: false })
            }
            Err(error) => Err(GaveUp::refused(undecided(error))),
        }
    }

    /// What a caller is told who takes a refusal for the end.
    pub(crate) fn judgement(&self, gave_up: GaveUp) -> ServerError {
        gave_up.into_judgement(&self.exchange)
    }

    pub(crate) fn error(&self, gave_up: GaveUp) -> ServerError {
        gave_up.into_error(&self.exchange)
    }

    async fn exchange<C: Call>(
        &self,
        call: &C,
        repeat: Repeat,
        wait: Duration,
        traceparent: Option<HeaderValue>,
    ) -> Result<C::Answer, GaveUp> {
        let body = serde_json::to_string(&Enveloped::new(call)).map_err(|error| {
            GaveUp::refused(ServerError::Invalid(format!("{} cannot be written: {error}", C::PROCEDURE)))
        })?;
        self.send(C::PROCEDURE, body, repeat, wait, traceparent).await
    }

    async fn send<A: DeserializeOwned>(
        &self,
        procedure: &'static str,
        body: String,
        repeat: Repeat,
        wait: Duration,
        traceparent: Option<HeaderValue>,
    ) -> Result<A, GaveUp> {
        let timeout = wait + self.request_timeout;
        let request = Request { procedure, body: body.into(), timeout, traceparent };
        let answer = send(&self.exchange, &request, repeat, self.retry_for).await?;
        read(&answer.body).map_err(|error| {
            let text = format!("the answer to {procedure} cannot be read ({error}): is the server newer?");
            GaveUp { failure: Failure::Foreign(text), lost_before: false }
        })
    }
}

/// The data of an envelope; one without data is read as `null`.
fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, serde_json::Error> {
    match body {
        b"{}" => serde_json::from_str("null"),
        body => serde_json::from_slice::<Answered<T>>(body).map(|answered| answered.json),
    }
}

/// The payload of an event, in bytes.
pub(super) fn event_size(event: &SendEvent) -> usize {
    event.event.data.as_ref().map_or(0, |data| data.as_str().len())
}

/// The payload of a start, in bytes.
pub(super) fn create_size(request: &CreateRun) -> usize {
    request.input.as_ref().map_or(0, |input| input.as_str().len())
}

impl fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpClient").field("server", &self.shared.exchange.base()).finish_non_exhaustive()
    }
}
