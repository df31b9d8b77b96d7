//! What a replay found, one line per scenario.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde_json::Value;

/// Longer values are cut, characters.
const SHOWN: usize = 160;

/// One answer that is not as it should be.
#[derive(Debug, Clone, PartialEq)]
pub struct Fault {
    /// Place in the recording.
    pub seq: u64,
    /// Path of the request.
    pub path: String,
    /// JSON pointer into the answer, or `status`.
    pub pointer: String,
    /// What was expected.
    pub recorded: String,
    /// What came.
    pub live: String,
}

impl Fault {
    /// The whole scenario was not done within its limit.
    #[must_use]
    pub fn too_late(limit: Duration) -> Self {
        let recorded = format!("done within {} s", limit.as_secs());
        Self { seq: 0, path: String::new(), pointer: String::new(), recorded, live: "still at it".to_owned() }
    }
}

/// How one scenario went.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// Every answer was as recorded, or differed in a way that the contract foresees.
    Ok {
        /// Answers compared.
        exchanges: usize,
        /// Exchanges about another session's runs, which cannot be replayed.
        foreign: usize,
        /// How often each reason for a difference applied.
        tolerated: BTreeMap<String, u32>,
    },
    /// At least one answer was wrong.
    Differs(Vec<Fault>),
    /// It was not replayed; this does not count as ok.
    Skipped(String),
}

/// One line (and more for what differs) of the report.
#[derive(Debug, Clone)]
pub struct Report {
    /// The scenario's name.
    pub scenario: String,
    /// How it went.
    pub outcome: Outcome,
    /// How long it took.
    pub took: Duration,
}

impl Report {
    /// Whether something was wrong.
    #[must_use]
    pub fn failed(&self) -> bool {
        matches!(self.outcome, Outcome::Differs(_))
    }
}

/// A value as the report shows it.
#[must_use]
pub fn shown(value: Option<&Value>) -> String {
    let text = value.map_or_else(|| "(absent)".to_owned(), Value::to_string);
    if text.chars().count() <= SHOWN { text } else { text.chars().take(SHOWN).chain("...".chars()).collect() }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, seconds) = (&self.scenario, self.took.as_secs_f64());
        match &self.outcome {
            Outcome::Ok { exchanges, foreign, tolerated } => {
                write!(f, "ok       {name}: {exchanges} exchanges in {seconds:.1} s")?;
                if *foreign > 0 {
                    write!(f, ", {foreign} about runs of an earlier session left out")?;
                }
                for (why, times) in tolerated {
                    write!(f, "; {times} x {why}")?;
                }
                Ok(())
            }
            Outcome::Differs(faults) => {
                write!(f, "DIFFERS  {name}: {} differences in {seconds:.1} s", faults.len())?;
                for fault in faults {
                    let Fault { seq, path, pointer, recorded, live } = fault;
                    write!(f, "\n           seq {seq} {path} {pointer}: recorded {recorded}, live {live}")?;
                }
                Ok(())
            }
            Outcome::Skipped(why) => write!(f, "skipped  {name}: {why}"),
        }
    }
}
