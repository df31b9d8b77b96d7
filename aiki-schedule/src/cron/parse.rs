//! Reading an expression. The library reads the fields; what it lacks of the contract is added here,
//! and an error names the field that is wrong.

use croner::parser::{CronParser, Year};

use super::MAX_EXPRESSION;
use crate::error::SpecError;

/// A field: its name, its lowest value, and what may be written there.
struct Field {
    name: &'static str,
    lowest: &'static str,
    expected: &'static str,
}

const FIELDS: [Field; 6] = [
    Field { name: "second", lowest: "0", expected: "use 0-59, and any of * , - /" },
    Field { name: "minute", lowest: "0", expected: "use 0-59, and any of * , - /" },
    Field { name: "hour", lowest: "0", expected: "use 0-23, and any of * , - /" },
    Field { name: "day of the month", lowest: "1", expected: "use 1-31, L for the last day, and any of * , - / ? W" },
    Field { name: "month", lowest: "1", expected: "use 1-12 or JAN-DEC, and any of * , - /" },
    Field {
        name: "day of the week",
        lowest: "0",
        expected: "use 0-7 or SUN-SAT (0 and 7 are Sunday), 5#2 for the second Friday, 5L for the last, and any of * , - / ?",
    },
];

const NICKNAMES: [&str; 6] = ["@hourly", "@daily", "@weekly", "@monthly", "@yearly", "@annually"];

pub(super) fn parse(expression: &str) -> Result<croner::Cron, SpecError> {
    if expression.len() > MAX_EXPRESSION {
        return Err(SpecError::ExpressionTooLong(expression.len()));
    }
    let parser = CronParser::builder().year(Year::Disallowed).sloppy_ranges(true).build();
    let trimmed = expression.trim();
    if trimmed.starts_with('@') {
        let known = NICKNAMES.iter().any(|nickname| nickname.eq_ignore_ascii_case(trimmed));
        let cron = known.then(|| parser.parse(trimmed).ok()).flatten();
        return cron.ok_or_else(|| SpecError::Nickname(expression.to_owned()));
    }
    let fields = padded(expression)?;
    // The library takes `1,` for `1`: more likely something is missing there.
    let unfinished = fields.iter().any(|field| has_hole(field));
    let cron = parser.parse(&fields.join(" ")).ok().filter(|_| !unfinished);
    cron.ok_or_else(|| blame(&parser, expression, &fields))
}

/// The six fields. Missing ones at the end are `*`, a missing second is 0. `H` stands for any fixed
/// value, and the lowest is as good as any.
fn padded(expression: &str) -> Result<Vec<&str>, SpecError> {
    let mut fields: Vec<&str> = expression.split_whitespace().collect();
    if fields.len() > FIELDS.len() {
        return Err(SpecError::Fields { expression: expression.to_owned(), fields: fields.len() });
    }
    if fields.len() < FIELDS.len() {
        fields.insert(0, "0");
        fields.resize(FIELDS.len(), "*");
    }
    for (text, field) in fields.iter_mut().zip(&FIELDS) {
        if text.eq_ignore_ascii_case("H") {
            *text = field.lowest;
        }
    }
    Ok(fields)
}

/// Whether an item of a list is empty.
fn has_hole(field: &str) -> bool {
    field.split(',').any(str::is_empty)
}

/// Finds the field that cannot be read: the one that fails though all others are `*`.
fn blame(parser: &CronParser, expression: &str, fields: &[&str]) -> SpecError {
    let fails_alone = |at: usize| {
        let mut alone = ["*"; FIELDS.len()];
        alone[at] = fields[at];
        has_hole(fields[at]) || parser.parse(&alone.join(" ")).is_err()
    };
    let at = (0..fields.len()).find(|at| fails_alone(*at)).unwrap_or(0);
    let Field { name, expected, .. } = FIELDS[at];
    SpecError::Field { field: name, text: fields[at].to_owned(), expression: expression.to_owned(), expected }
}
