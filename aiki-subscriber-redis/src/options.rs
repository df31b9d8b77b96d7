//! What a subscription can be told.

use std::time::Duration;

use serde::Deserialize;

/// The options of [`RedisStreams`](crate::RedisStreams) as they stand in a configuration file:
/// `{"claimMinIdleTimeMs": 60000, "blockTimeMs": 1000}`, each of them optional.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
#[non_exhaustive]
pub struct RedisStreamsOptions {
    /// A delivery that its worker neither settles nor renews for this long, in milliseconds, may be taken over. 60,000
    /// by default, from 500 to 86,400,000.
    pub claim_min_idle_time_ms: u64,
    /// How long a read waits for new entries, in milliseconds. 1,000 by default, from 10 to 60,000.
    pub block_time_ms: u64,
}

/// An option out of bounds.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{option} is {value} ms: it must be from {least} to {most} ms")]
pub struct RedisStreamsOptionsError {
    option: &'static str,
    value: u128,
    least: u128,
    most: u128,
}

impl Default for RedisStreamsOptions {
    fn default() -> Self {
        Self { claim_min_idle_time_ms: 60_000, block_time_ms: 1_000 }
    }
}

impl RedisStreamsOptions {
    /// Whether all values are within their bounds.
    ///
    /// # Errors
    /// Names the first one that is not.
    pub fn check(&self) -> Result<(), RedisStreamsOptionsError> {
        check(Duration::from_millis(self.claim_min_idle_time_ms), Duration::from_millis(self.block_time_ms))
    }
}

pub(crate) fn check(claim_min_idle_time: Duration, block_time: Duration) -> Result<(), RedisStreamsOptionsError> {
    let within = |option, value: Duration, least, most| {
        let value = value.as_millis();
        if (least..=most).contains(&value) {
            Ok(())
        } else {
            Err(RedisStreamsOptionsError { option, value, least, most })
        }
    };
    within("claimMinIdleTimeMs", claim_min_idle_time, 500, 86_400_000)?;
    within("blockTimeMs", block_time, 10, 60_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_options_are_refused_with_what_to_change() {
        let parse = |text| serde_json::from_str::<RedisStreamsOptions>(text);
        assert_eq!(parse("{}").unwrap(), RedisStreamsOptions::default());
        assert_eq!(parse(r#"{"blockTimeMs":50}"#).unwrap().block_time_ms, 50);
        assert!(parse(r#"{"blockTime":50}"#).is_err());
        let error = check(Duration::from_secs(60), Duration::ZERO).unwrap_err();
        assert_eq!(error.to_string(), "blockTimeMs is 0 ms: it must be from 10 to 60000 ms");
        assert!(check(Duration::from_millis(10), Duration::from_secs(1)).is_err());
        assert_eq!(check(Duration::from_secs(1), Duration::from_millis(100)), Ok(()));
    }
}
