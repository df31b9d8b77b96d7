//! Schedules that cannot be served.

/// Why a schedule cannot be served. Each text names the part that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// The interval is zero or beyond what is served.
    #[error("an interval of {0} ms: give 1 ms to {max} ms (100 years)", max = crate::interval::MAX_EVERY_MS)]
    Interval(u64),
    /// The expression is longer than anybody writes.
    #[error("the cron expression has {0} bytes, the limit is {max}", max = crate::cron::MAX_EXPRESSION)]
    ExpressionTooLong(usize),
    /// The expression has too many fields.
    #[error(
        "the cron expression `{expression}` has {fields} fields: give 5 (minute hour day month weekday), or 6 with the \
         second in front"
    )]
    Fields {
        /// The expression.
        expression: String,
        /// How many it has.
        fields: usize,
    },
    /// The expression begins with `@` and is none of the known nicknames.
    #[error("`{0}` is not a cron nickname: use @hourly, @daily, @weekly, @monthly, @yearly, or five fields")]
    Nickname(String),
    /// One field of the expression cannot be read.
    #[error("the {field} `{text}` of the cron expression `{expression}` cannot be read: {expected}")]
    Field {
        /// Which field.
        field: &'static str,
        /// What is written there.
        text: String,
        /// The whole expression.
        expression: String,
        /// What may be written there.
        expected: &'static str,
    },
    /// The expression can be read but no day ever fits it.
    #[error("the cron expression `{0}` never occurs: no date has that day, month and weekday")]
    Never(String),
    /// There is no such time zone.
    #[error("there is no time zone `{0}`: give an IANA name such as Europe/Berlin, or none for UTC")]
    Zone(String),
}
