//! The JSON form of a retry strategy.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{MAX_WHOLE, RetryStrategy, RetryStrategyError};
use crate::time::ceil_millis;

/// The strategy as JSON. A field counts only for the types that have it; elsewhere anything may stand in it.
#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Wire {
    r#type: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_attempts: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    delay_ms: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    base_delay_ms: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    factor: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_delay_ms: Option<Value>,
}

impl TryFrom<Wire> for RetryStrategy {
    type Error = RetryStrategyError;

    fn try_from(wire: Wire) -> Result<Self, RetryStrategyError> {
        let max_attempts = || needed(wire.max_attempts.as_ref(), "maxAttempts");
        let base_delay = || needed(wire.base_delay_ms.as_ref(), "baseDelayMs").map(Duration::from_millis);
        // A factor beyond u32 saturates: the second delay already is 49 days or longer.
        let factor = || wire.factor.as_ref().map(|factor| whole(factor, "factor")).transpose();
        let max_delay =
            || wire.max_delay_ms.as_ref().map(|ms| whole(ms, "maxDelayMs").map(Duration::from_millis)).transpose();
        match wire.r#type.as_str() {
            "never" => Ok(Self::Never),
            "fixed" => {
                Ok(Self::fixed(max_attempts()?, needed(wire.delay_ms.as_ref(), "delayMs").map(Duration::from_millis)?))
            }
            kind @ ("exponential" | "jittered") => {
                let growing = if kind == "jittered" { Self::jittered } else { Self::exponential };
                let strategy = growing(max_attempts()?, base_delay()?);
                let strategy = match factor()? {
                    Some(factor) => strategy.factor(u32::try_from(factor).unwrap_or(u32::MAX)),
                    None => strategy,
                };
                Ok(match max_delay()? {
                    Some(max_delay) => strategy.max_delay(max_delay),
                    None => strategy,
                })
            }
            _ => Err(RetryStrategyError::UnknownType(wire.r#type)),
        }
    }
}

impl From<RetryStrategy> for Wire {
    fn from(strategy: RetryStrategy) -> Self {
        let number = |number: u64| Some(Value::from(number.min(MAX_WHOLE)));
        let ms = |delay: Duration| number(ceil_millis(delay));
        let growing = |r#type: &str, max_attempts, base_delay, factor: Option<u32>, max_delay: Option<Duration>| Self {
            r#type: r#type.to_owned(),
            max_attempts: number(max_attempts),
            base_delay_ms: ms(base_delay),
            factor: factor.map(Value::from),
            max_delay_ms: max_delay.and_then(ms),
            ..Self::default()
        };
        match strategy {
            RetryStrategy::Never => Self { r#type: "never".to_owned(), ..Self::default() },
            RetryStrategy::Fixed { max_attempts, delay } => Self {
                r#type: "fixed".to_owned(),
                max_attempts: number(max_attempts),
                delay_ms: ms(delay),
                ..Self::default()
            },
            RetryStrategy::Exponential { max_attempts, base_delay, factor, max_delay } => {
                growing("exponential", max_attempts, base_delay, factor, max_delay)
            }
            RetryStrategy::Jittered { max_attempts, base_delay, factor, max_delay } => {
                growing("jittered", max_attempts, base_delay, factor, max_delay)
            }
        }
    }
}

fn needed(value: Option<&Value>, field: &'static str) -> Result<u64, RetryStrategyError> {
    value.map_or(Err(RetryStrategyError::Missing(field)), |value| whole(value, field))
}

/// A whole number of at least 1; one beyond `u64` saturates.
fn whole(value: &Value, field: &'static str) -> Result<u64, RetryStrategyError> {
    let from_float = || value.as_f64().filter(|number| *number >= 0.0 && number.fract() == 0.0).map(|n| n as u64);
    match value.as_u64().or_else(from_float) {
        Some(0) => Err(RetryStrategyError::Zero(field)),
        Some(number) => Ok(number),
        None => Err(RetryStrategyError::NotWhole { field, found: value.to_string() }),
    }
}
