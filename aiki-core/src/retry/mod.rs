//! Retry strategies: whether a failed attempt is repeated, and after how long.
//!
//! With n failed attempts so far the delay is
//!
//! | strategy | delay in milliseconds |
//! |---|---|
//! | never | no retry |
//! | fixed | `delay` |
//! | exponential | `min(base_delay * factor^(n-1), max_delay)` |
//! | jittered | `min(random * base_delay * factor^(n-1), max_delay)` |
//!
//! and a retry happens only while n < `max_attempts`. The arithmetic is that of `f64`, so it cannot wrap around.

mod wire;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::time::ceil_millis;
use wire::Wire;

/// The factor of [`RetryStrategy::exponential`] and [`RetryStrategy::jittered`] unless set otherwise.
pub const DEFAULT_FACTOR: u32 = 2;

/// The largest whole number that every JSON peer reads exactly; as milliseconds it is 285 thousand years.
const MAX_WHOLE: u64 = (1 << 53) - 1;

/// Says whether and when a failed attempt is repeated. Delays count in whole milliseconds, rounded up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Wire", into = "Wire")]
pub enum RetryStrategy {
    /// The first failure is final.
    #[default]
    Never,
    /// The same delay every time.
    Fixed {
        /// Attempts in total, including the first.
        max_attempts: u64,
        /// Time between a failure and the next attempt.
        delay: Duration,
    },
    /// A delay that is multiplied by `factor` after every failure.
    Exponential {
        /// Attempts in total, including the first.
        max_attempts: u64,
        /// Delay after the first failure.
        base_delay: Duration,
        /// What the delay is multiplied by; [`DEFAULT_FACTOR`] when nothing is said.
        factor: Option<u32>,
        /// The delay never gets longer than this.
        max_delay: Option<Duration>,
    },
    /// A random part of the exponential delay, which keeps many failed runs from coming back at once.
    Jittered {
        /// Attempts in total, including the first.
        max_attempts: u64,
        /// Upper bound of the delay after the first failure.
        base_delay: Duration,
        /// What the upper bound is multiplied by; [`DEFAULT_FACTOR`] when nothing is said.
        factor: Option<u32>,
        /// The delay never gets longer than this.
        max_delay: Option<Duration>,
    },
}

/// A retry strategy cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RetryStrategyError {
    /// A value is zero.
    #[error("`{0}` of the retry strategy is 0: it must be at least 1")]
    Zero(&'static str),
    /// The JSON lacks a field that the strategy needs.
    #[error("`{0}` of the retry strategy is missing: give it a whole number of at least 1")]
    Missing(&'static str),
    /// The JSON has something other than a whole number.
    #[error("`{field}` of the retry strategy is {found}: it must be a whole number of at least 1")]
    NotWhole {
        /// The name of the field on the wire.
        field: &'static str,
        /// Its JSON.
        found: String,
    },
    /// The JSON names an unknown strategy.
    #[error("the retry strategy type `{0}` is unknown: use never, fixed, exponential or jittered")]
    UnknownType(String),
}

impl RetryStrategy {
    /// No retries.
    pub const fn never() -> Self {
        Self::Never
    }

    /// Up to `max_attempts` attempts in total, `delay` apart.
    pub const fn fixed(max_attempts: u64, delay: Duration) -> Self {
        Self::Fixed { max_attempts, delay }
    }

    /// Up to `max_attempts` attempts in total; the delay starts at `base_delay` and doubles.
    pub const fn exponential(max_attempts: u64, base_delay: Duration) -> Self {
        Self::Exponential { max_attempts, base_delay, factor: None, max_delay: None }
    }

    /// Like [`exponential`](Self::exponential), each delay being a random part of it.
    pub const fn jittered(max_attempts: u64, base_delay: Duration) -> Self {
        Self::Jittered { max_attempts, base_delay, factor: None, max_delay: None }
    }

    /// Multiplies the delay by `factor` after every failure. Changes nothing for never and fixed.
    #[must_use]
    pub const fn factor(mut self, factor: u32) -> Self {
        if let Self::Exponential { factor: own, .. } | Self::Jittered { factor: own, .. } = &mut self {
            *own = Some(factor);
        }
        self
    }

    /// Keeps every delay at or below `max_delay`. Changes nothing for never and fixed.
    #[must_use]
    pub const fn max_delay(mut self, max_delay: Duration) -> Self {
        if let Self::Exponential { max_delay: own, .. } | Self::Jittered { max_delay: own, .. } = &mut self {
            *own = Some(max_delay);
        }
        self
    }

    /// The nearest strategy that a server accepts: at least one attempt, a factor of 1 and delays of 1 ms.
    #[must_use]
    pub fn normalized(mut self) -> Self {
        let least = |delay: &mut Duration| *delay = (*delay).max(Duration::from_millis(1));
        match &mut self {
            Self::Never => {}
            Self::Fixed { max_attempts, delay } => {
                *max_attempts = (*max_attempts).max(1);
                least(delay);
            }
            Self::Exponential { max_attempts, base_delay, factor, max_delay }
            | Self::Jittered { max_attempts, base_delay, factor, max_delay } => {
                *max_attempts = (*max_attempts).max(1);
                *factor = factor.map(|factor| factor.max(1));
                least(base_delay);
                max_delay.iter_mut().for_each(least);
            }
        }
        self
    }

    /// Checks that attempts and factor are at least 1 and delays at least 1 ms. A server refuses what fails here.
    ///
    /// # Errors
    /// [`RetryStrategyError::Zero`] names the first value that is too small, as it is called on the wire.
    pub fn validate(&self) -> Result<(), RetryStrategyError> {
        let attempts = |count| at_least(1, count, "maxAttempts");
        let delay = |delay: Duration, field| at_least(1, delay.as_millis(), field);
        match *self {
            Self::Never => Ok(()),
            Self::Fixed { max_attempts, delay: fixed } => attempts(max_attempts).and(delay(fixed, "delayMs")),
            Self::Exponential { max_attempts, base_delay, factor, max_delay }
            | Self::Jittered { max_attempts, base_delay, factor, max_delay } => attempts(max_attempts)
                .and(delay(base_delay, "baseDelayMs"))
                .and(factor.map_or(Ok(()), |factor| at_least(1, factor, "factor")))
                .and(max_delay.map_or(Ok(()), |max_delay| delay(max_delay, "maxDelayMs"))),
        }
    }

    /// The delay after `failed_attempts` failures, the first being 1; `None` when no retry is left.
    ///
    /// It is rounded up to whole milliseconds and lies between 1 ms and 285 thousand years. `random` is as in
    /// [`delay_ms_after`](Self::delay_ms_after).
    pub fn delay_after(&self, failed_attempts: u64, random: f64) -> Option<Duration> {
        let ms = self.delay_ms_after(failed_attempts, random)?;
        // The cast saturates.
        Some(Duration::from_millis((ms.ceil() as u64).clamp(1, MAX_WHOLE)))
    }

    /// The delay in milliseconds exactly as the formula has it, possibly with a fraction; `None` when no retry is
    /// left. Products beyond `f64::MAX` count as `f64::MAX`.
    ///
    /// Only jittered uses `random`, a number in `0.0..1.0`; one outside is moved to the nearest end, and what is not a
    /// number counts as 1.
    pub fn delay_ms_after(&self, failed_attempts: u64, random: f64) -> Option<f64> {
        let ms = |delay: Duration| ceil_millis(delay) as f64;
        let grown = |base_delay: Duration, factor: Option<u32>| {
            let factor = factor.unwrap_or(DEFAULT_FACTOR);
            let exponent = i32::try_from(failed_attempts.saturating_sub(1)).unwrap_or(i32::MAX);
            (ms(base_delay) * f64::from(factor).powi(exponent)).min(f64::MAX)
        };
        let capped = |delay: f64, max_delay: Option<Duration>| delay.min(max_delay.map_or(f64::MAX, ms));
        let (max_attempts, delay) = match *self {
            Self::Never => return None,
            Self::Fixed { max_attempts, delay } => (max_attempts, ms(delay)),
            Self::Exponential { max_attempts, base_delay, factor, max_delay } => {
                (max_attempts, capped(grown(base_delay, factor), max_delay))
            }
            Self::Jittered { max_attempts, base_delay, factor, max_delay } => {
                let random = if random.is_nan() { 1.0 } else { random.clamp(0.0, 1.0) };
                (max_attempts, capped(random * grown(base_delay, factor), max_delay))
            }
        };
        (failed_attempts < max_attempts).then_some(delay)
    }
}

fn at_least<T: PartialOrd>(least: T, value: T, field: &'static str) -> Result<(), RetryStrategyError> {
    if value < least { Err(RetryStrategyError::Zero(field)) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn parse(text: &str) -> Result<RetryStrategy, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn wire_shape() {
        let strategy = RetryStrategy::jittered(4, SECOND).factor(3).max_delay(Duration::from_micros(30_000_500));
        let text = serde_json::to_string(&strategy).unwrap();
        assert_eq!(text, r#"{"type":"jittered","maxAttempts":4,"baseDelayMs":1000,"factor":3,"maxDelayMs":30001}"#);
        assert_eq!(parse(r#"{"type":"never","delayMs":"x","more":1}"#), Ok(RetryStrategy::never()));
        let fixed = RetryStrategy::fixed(2, SECOND);
        assert_eq!(parse(r#"{"type":"fixed","maxAttempts":2,"delayMs":1e3,"factor":0.5}"#), Ok(fixed.clone()));
        assert_eq!(fixed.clone().factor(9).max_delay(SECOND), fixed);
        let said = r#"{"type":"exponential","maxAttempts":3,"baseDelayMs":1000,"factor":2}"#;
        assert_eq!(serde_json::to_string(&parse(said).unwrap()).unwrap(), said, "what was said is kept");
        let endless = serde_json::to_string(&RetryStrategy::exponential(u64::MAX, SECOND)).unwrap();
        assert_eq!(endless, r#"{"type":"exponential","maxAttempts":9007199254740991,"baseDelayMs":1000}"#);
    }

    #[test]
    fn bad_strategies_are_refused_with_the_field() {
        for (text, named) in [
            (r#"{"type":"linear"}"#, "`linear`"),
            (r#"{"maxAttempts":1}"#, "`type`"),
            (r#"{"type":"fixed","maxAttempts":1}"#, "`delayMs` of the retry strategy is missing"),
            (r#"{"type":"fixed","maxAttempts":0,"delayMs":1}"#, "`maxAttempts` of the retry strategy is 0"),
            (
                r#"{"type":"exponential","maxAttempts":1,"baseDelayMs":1.5}"#,
                "`baseDelayMs` of the retry strategy is 1.5",
            ),
            (r#"{"type":"jittered","maxAttempts":1,"baseDelayMs":1,"factor":"2"}"#, "`factor`"),
            (r#"{"type":"jittered","maxAttempts":1,"baseDelayMs":1,"maxDelayMs":-1}"#, "`maxDelayMs`"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(named), "{text}: {error}");
        }
        let short = RetryStrategy::fixed(1, Duration::from_micros(999));
        assert_eq!(short.validate(), Err(RetryStrategyError::Zero("delayMs")));
        let flat = RetryStrategy::exponential(1, SECOND).factor(0);
        assert_eq!(flat.validate(), Err(RetryStrategyError::Zero("factor")));
        assert_eq!(RetryStrategy::jittered(1, SECOND).max_delay(SECOND).validate(), Ok(()));
    }

    #[test]
    fn the_extremes_saturate() {
        let longest = Some(Duration::from_millis(MAX_WHOLE));
        let strategy = RetryStrategy::exponential(u64::MAX, Duration::MAX).factor(u32::MAX);
        assert_eq!(strategy.delay_after(u64::MAX - 1, 0.0), longest);
        let strategy = RetryStrategy::jittered(u64::MAX, Duration::MAX).factor(u32::MAX);
        assert_eq!(strategy.delay_after(u64::MAX - 1, 0.0), Some(Duration::from_millis(1)));
        assert_eq!(strategy.delay_after(u64::MAX - 1, f64::NAN), longest);
        assert_eq!(RetryStrategy::fixed(2, Duration::ZERO).delay_after(1, 0.0), Some(Duration::from_millis(1)));
        assert_eq!(RetryStrategy::exponential(2, SECOND).delay_after(0, 0.0), Some(SECOND));
    }

    proptest! {
        #[test]
        fn a_random_delay_stays_within_its_bounds(
            failed in 1_u64..2000, base in 1_u64..100_000, factor in 1_u32..10, cap in 1_u64..1_000_000, random in 0.0..1.0,
        ) {
            let capped = |strategy: RetryStrategy| strategy.factor(factor).max_delay(Duration::from_millis(cap));
            let base = Duration::from_millis(base);
            let jittered = capped(RetryStrategy::jittered(u64::MAX, base)).delay_after(failed, random).unwrap();
            let full = capped(RetryStrategy::exponential(u64::MAX, base)).delay_after(failed, random).unwrap();
            prop_assert!(jittered >= Duration::from_millis(1) && jittered <= full);
            prop_assert!(full <= Duration::from_millis(cap));
        }

        #[test]
        fn strategies_survive_the_wire(
            attempts in 1..=MAX_WHOLE, ms in 1..=MAX_WHOLE, factor in 1_u32.., cap in proptest::option::of(1..=MAX_WHOLE),
        ) {
            for strategy in [RetryStrategy::exponential, RetryStrategy::jittered, RetryStrategy::fixed] {
                let strategy = strategy(attempts, Duration::from_millis(ms)).factor(factor);
                let strategy = match cap {
                    Some(cap) => strategy.max_delay(Duration::from_millis(cap)),
                    None => strategy,
                };
                let text = serde_json::to_string(&strategy).unwrap();
                prop_assert_eq!(parse(&text), Ok(strategy));
            }
        }
    }
}
