//! What several requests have in common.

use std::num::NonZeroU64;
use std::time::Duration;

use aiki_core::failure::ErrorObject;
use aiki_core::hash::InputHash;
use aiki_core::name::{Name, Source};
use aiki_core::retry::RetryStrategy;
use aiki_core::run::status::{QueuedReason, RunStatus, ScheduledReason, TaskStatus};
use aiki_core::run::{ConflictPolicy, Reference, RunOptions};
use aiki_core::schedule::{OverlapPolicy, ScheduleStatus};
use serde_json::value::RawValue;

use super::request::request;
use crate::read::{At, Fields, Invalid, Prose, Read, Str1, read_name};

request! {
    /// Names one run, task or schedule.
    ById {
        /// Its id. One that is no ULID belongs to nothing.
        need id: Str1 = "id",
    }

    /// The hash of an input, and those of the same input by older hashers.
    Hashes {
        /// The hash.
        need value: Str1 = "value",
        /// Hashes that count as equal.
        may deprecated: Vec<Str1> = "deprecatedValues",
    }

    /// The order of a list.
    Sort {
        /// Which way.
        need order: Order = "order",
    }
}

impl Hashes {
    /// The hash, and those that count as equal.
    pub fn into_parts(self) -> (InputHash, Vec<InputHash>) {
        let hash = |text: Str1| InputHash::from(text.into_string());
        (hash(self.value), self.deprecated.into_iter().flatten().map(hash).collect())
    }
}

/// Which way a list is sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// The smallest first.
    Asc,
    /// The largest first.
    Desc,
}

impl Order {
    fn as_str(self) -> &'static str {
        match self {
            Order::Asc => "asc",
            Order::Desc => "desc",
        }
    }
}

fn overlap(policy: OverlapPolicy) -> &'static str {
    match policy {
        OverlapPolicy::Allow => "allow",
        OverlapPolicy::Skip => "skip",
        OverlapPolicy::CancelPrevious => "cancel_previous",
    }
}

fn conflict(policy: ConflictPolicy) -> &'static str {
    match policy {
        ConflictPolicy::Error => "error",
        ConflictPolicy::ReturnExisting => "return_existing",
    }
}

macro_rules! names {
    ($($type:ty: $all:expr, $name:expr;)*) => {
        $(impl Read for $type {
            fn read(raw: &RawValue, at: &At<'_>) -> Result<Self, Invalid> {
                read_name(raw, at, $all, $name)
            }
        })*
    };
}

names! {
    RunStatus: RunStatus::ALL, RunStatus::as_str;
    TaskStatus: TaskStatus::ALL, TaskStatus::as_str;
    QueuedReason: QueuedReason::ALL, QueuedReason::as_str;
    ScheduledReason: ScheduledReason::ALL, ScheduledReason::as_str;
    Source: &[Source::User, Source::System], Source::as_str;
    Order: &[Order::Asc, Order::Desc], Order::as_str;
    ScheduleStatus: &[ScheduleStatus::Active, ScheduleStatus::Paused, ScheduleStatus::Inactive], ScheduleStatus::as_str;
    OverlapPolicy: &[OverlapPolicy::Allow, OverlapPolicy::Skip, OverlapPolicy::CancelPrevious], overlap;
    ConflictPolicy: &[ConflictPolicy::Error, ConflictPolicy::ReturnExisting], conflict;
}

/// The name of a pool. The contract lets it be empty; no worker can ask for such a pool.
impl Read for Name {
    fn read(raw: &RawValue, at: &At<'_>) -> Result<Self, Invalid> {
        Str1::read(raw, at).map(Name::from)
    }
}

impl Read for Reference {
    fn read(raw: &RawValue, at: &At<'_>) -> Result<Self, Invalid> {
        let fields = Fields::open(raw, at)?;
        let id = fields.need::<Str1>("id")?.into_string();
        Ok(Self { id, conflict_policy: fields.may("conflictPolicy")?.unwrap_or_default() })
    }
}

impl Read for RunOptions {
    fn read(raw: &RawValue, at: &At<'_>) -> Result<Self, Invalid> {
        let fields = Fields::open(raw, at)?;
        Ok(Self { retry: fields.may("retry")?, pool: fields.may("pool")? })
    }
}

/// Only the fields of the given type are looked at.
impl Read for RetryStrategy {
    fn read(raw: &RawValue, at: &At<'_>) -> Result<Self, Invalid> {
        let fields = Fields::open(raw, at)?;
        let whole = |key| fields.need::<NonZeroU64>(key).map(NonZeroU64::get);
        let ms = |key| whole(key).map(Duration::from_millis);
        let kind: String = fields.need("type")?;
        match kind.as_str() {
            "never" => Ok(Self::Never),
            "fixed" => Ok(Self::fixed(whole("maxAttempts")?, ms("delayMs")?)),
            "exponential" | "jittered" => {
                let growing = if kind == "jittered" { Self::jittered } else { Self::exponential };
                // A factor beyond u32 saturates: the second delay is 49 days or longer with it.
                let factor = fields.may::<NonZeroU64>("factor")?;
                let max_delay = fields.may::<NonZeroU64>("maxDelayMs")?;
                let strategy = growing(whole("maxAttempts")?, ms("baseDelayMs")?);
                let strategy = match factor {
                    Some(factor) => strategy.factor(u32::try_from(factor.get()).unwrap_or(u32::MAX)),
                    None => strategy,
                };
                Ok(match max_delay {
                    Some(most) => strategy.max_delay(Duration::from_millis(most.get())),
                    None => strategy,
                })
            }
            _ => Err(fields.wrong("type", "one of never, fixed, exponential, jittered")),
        }
    }
}

/// The chain of causes is as long as the body may be deep.
impl Read for ErrorObject {
    fn read(raw: &RawValue, at: &At<'_>) -> Result<Self, Invalid> {
        let fields = Fields::open(raw, at)?;
        Ok(Self {
            message: fields.need::<Prose>("message")?.0,
            name: fields.need::<Prose>("name")?.0,
            stack: fields.may::<Prose>("stack")?.map(|stack| stack.0),
            cause: fields.may::<ErrorObject>("cause")?.map(Box::new),
            data: fields.may("data")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<T: Read>(text: &str) -> Result<T, String> {
        let raw = RawValue::from_string(text.to_owned()).unwrap();
        T::read(&raw, &At::ROOT).map_err(|error| error.to_string())
    }

    #[test]
    fn a_retry_strategy_has_the_fields_of_its_type() {
        let most =
            r#"{"type":"exponential","maxAttempts":9007199254740991,"baseDelayMs":1,"factor":3.0,"delayMs":"x"}"#;
        let expected = RetryStrategy::exponential((1 << 53) - 1, Duration::from_millis(1)).factor(3);
        assert_eq!(read(most), Ok(expected));
        assert_eq!(read(r#"{"type":"never","maxAttempts":0}"#), Ok(RetryStrategy::Never));
        for (text, place) in [
            (r#"["fixed",1,1]"#, "the input"),
            (r#"{"type":"fixed","maxAttempts":0,"delayMs":1}"#, "`maxAttempts`"),
            (r#"{"type":"fixed","maxAttempts":1,"delayMs":0}"#, "`delayMs`"),
            (r#"{"type":"fixed","maxAttempts":1}"#, "`delayMs`"),
            (r#"{"type":"jittered","maxAttempts":1,"baseDelayMs":1,"maxDelayMs":null}"#, "`maxDelayMs`"),
            (r#"{"type":"jittered","maxAttempts":1,"baseDelayMs":1,"factor":1.5}"#, "`factor`"),
            (r#"{"type":"linear"}"#, "`type`"),
            (r#"{"maxAttempts":1}"#, "`type`"),
        ] {
            let error = read::<RetryStrategy>(text).unwrap_err();
            assert!(error.starts_with(place), "{text}: {error}");
        }
    }

    #[test]
    fn nobody_could_ask_for_a_pool_without_a_name() {
        assert_eq!(read(r#"{"pool":"eu","more":null}"#), Ok(RunOptions { retry: None, pool: Some("eu".into()) }));
        for text in [r#"{"pool":""}"#, r#"{"pool":null}"#, r#"{"pool":1}"#] {
            assert!(read::<RunOptions>(text).unwrap_err().starts_with("`pool`"), "{text}");
        }
    }

    #[test]
    fn an_error_is_read_with_its_causes_and_without_nulls() {
        let text = r#"{"message":"","name":"A","cause":{"message":"b","name":"B","stack":"s"},"more":1}"#;
        let error: ErrorObject = read(text).unwrap();
        assert_eq!(error.cause.unwrap().stack.as_deref(), Some("s"));
        for (text, place) in [
            (r#"{"message":"m"}"#, "`name`"),
            (r#"{"message":"m","name":"n","stack":null}"#, "`stack`"),
            (r#"{"message":"m","name":"n","cause":{"message":1,"name":"n"}}"#, "`cause.message`"),
            (r#""broken""#, "the input"),
        ] {
            let error = read::<ErrorObject>(text).unwrap_err();
            assert!(error.starts_with(place), "{text}: {error}");
        }
    }
}
