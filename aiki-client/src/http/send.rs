//! Trying again.

use std::time::Duration;

use aiki_core::ServerError;
use aiki_runtime::{Entropy, SystemEntropy};
use aiki_wire::error::WireError;
use aiki_wire::native::refused;
use tokio::time::{Instant, sleep};

use super::exchange::{Exchange, Request};
use super::failure::Failure;

/// The pause after the first failure; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// The longest pause, also when a server asks for more.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Whether a request may be sent a second time when it is open whether the first one was carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// The second one changes nothing.
    Safe,
    /// It would be carried out twice.
    Unsafe,
    /// Whoever asks has to know that the server was away.
    Never,
}

/// A good answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) body: Vec<u8>,
}

/// Why there is none after all.
#[derive(Debug)]
pub(crate) struct GaveUp {
    pub(crate) failure: Failure,
    /// Whether an earlier try may have been carried out.
    pub(crate) lost_before: bool,
}

/// Sends a request until it is answered, for `retry_for` at most.
pub(crate) async fn send(
    exchange: &Exchange,
    request: &Request,
    repeat: Repeat,
    retry_for: Duration,
) -> Result<Answer, GaveUp> {
    let deadline = Instant::now() + retry_for;
    let (mut pause, mut lost_before) = (FIRST_PAUSE, false);
    loop {
        let answer = exchange.once(request).await;
        exchange.note(request.procedure, &answer);
        let failure = match answer {
            Ok(body) => return Ok(Answer { body }),
            Err(failure) => failure,
        };
        let wait = match &failure {
            Failure::Unsent { after, .. } if repeat != Repeat::Never => (*after).unwrap_or(pause).min(LONGEST_PAUSE),
            Failure::Lost(_) if repeat == Repeat::Safe => pause,
            _ => return Err(GaveUp { failure, lost_before }),
        };
        let wait = jittered(wait);
        if Instant::now() + wait >= deadline {
            return Err(GaveUp { failure, lost_before });
        }
        lost_before |= matches!(failure, Failure::Lost(_));
        tracing::debug!(procedure = request.procedure, ?failure, ?wait, "a request is sent again");
        sleep(wait).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// From a half to the whole, so that clients do not come back all at once.
pub(super) fn jittered(pause: Duration) -> Duration {
    let half = pause / 2;
    let share = (SystemEntropy.next_u64() >> 40) as f64 / (1u64 << 24) as f64;
    half + half.mul_f64(share)
}

/// An error that says nothing about the request itself: the same request may do later.
pub(crate) fn undecided(error: ServerError) -> ServerError {
    match error {
        error @ (ServerError::Unavailable(_) | ServerError::Unauthorized(_)) => error,
        error => ServerError::Unavailable(error.to_string()),
    }
}

impl GaveUp {
    /// By this side.
    pub(crate) fn refused(error: ServerError) -> Self {
        Self { failure: Failure::Refused(error), lost_before: false }
    }

    /// What one is told who takes a refusal for the end: only the server's own word is one.
    pub(crate) fn into_judgement(self, exchange: &Exchange) -> ServerError {
        let judged = matches!(self.failure, Failure::Refused(_) | Failure::Coded(..));
        let error = self.into_error(exchange);
        if judged { error } else { undecided(error) }
    }

    /// What the caller is told.
    pub(crate) fn into_error(self, exchange: &Exchange) -> ServerError {
        let base = exchange.base();
        match self.failure {
            Failure::Refused(error) => error,
            Failure::Foreign(text) => ServerError::Invalid(text),
            Failure::Coded(code, message) => refused(WireError::new(code, message)),
            Failure::Unsent { reason, .. } => {
                ServerError::Unavailable(format!("{base} cannot be reached ({reason}): is the server up?"))
            }
            Failure::Lost(reason) => {
                ServerError::Unavailable(format!("the answer of {base} was lost ({reason}): it may have been done"))
            }
            Failure::Missing => ServerError::Invalid(format!(
                "{base} does not know the procedure: is `url` the address of an Aiki server of this release?"
            )),
        }
    }
}
