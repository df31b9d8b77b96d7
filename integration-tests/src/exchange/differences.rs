//! Deliberate differences: what a live server may answer otherwise than the recorded one.

use serde::Deserialize;
use serde_json::Value;

use super::compare::Mismatch;
use super::recording::Exchange;

/// The differences that the contract foresees (`differences.toml`).
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Differences {
    /// One per fixture and field.
    #[serde(default)]
    difference: Vec<Difference>,
}

/// One entry. Everything that it names must apply; what it does not name applies to all.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Difference {
    /// First characters of the scenario's name, usually its number.
    fixture: String,
    /// Places in the recording; empty means every place.
    #[serde(default)]
    seq: Vec<u64>,
    /// `group/procedure`; empty means every one.
    #[serde(default)]
    procedure: String,
    /// Where in the answer; a last part `*` stands for everything beneath, `status` for the status
    /// together with the error's code.
    #[serde(default)]
    pointer: String,
    /// What was recorded there, when that matters.
    recorded: Option<Value>,
    /// What may stand there instead; empty means anything of the contract.
    #[serde(default)]
    accept: Vec<Value>,
    /// A pointer into the request that must be there, as a number with a fraction or zero.
    #[serde(default)]
    odd_number: Vec<String>,
    /// From here on the run of this exchange goes another way than the recorded one: its later
    /// exchanges are sent, but only judged by their form.
    #[serde(default)]
    parts: bool,
    /// A run (recorded id) that has had more transitions than recorded, from the given place on.
    shift: Option<Shift>,
    /// The number in section 12 of the contract, when it is one of those.
    pub section12: Option<u8>,
    /// In a sentence.
    pub why: String,
}

/// A run whose live revision runs ahead of the recorded one.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shift {
    /// The run's recorded id.
    pub run: String,
    /// The first place at which it shows.
    pub from_seq: u64,
    /// By how many transitions.
    pub by: i64,
}

impl Differences {
    /// Those that come with the runner.
    ///
    /// # Errors
    /// When the file beside this one is not what it should be.
    pub fn of_the_contract() -> Result<Self, String> {
        Self::parse(include_str!("differences.toml"))
    }

    /// Reads entries from TOML.
    ///
    /// # Errors
    /// The parser's text, with line and column.
    pub fn parse(text: &str) -> Result<Self, String> {
        toml::from_str(text).map_err(|error| format!("differences.toml: {error}"))
    }

    /// The entries of one scenario.
    #[must_use]
    pub fn of(&self, scenario: &str) -> Self {
        let own = |entry: &&Difference| scenario.starts_with(&entry.fixture);
        Self { difference: self.difference.iter().filter(own).cloned().collect() }
    }

    /// The runs that have had more transitions than recorded.
    pub fn shifts(&self) -> impl Iterator<Item = &Shift> {
        self.difference.iter().filter_map(|entry| entry.shift.as_ref())
    }

    /// The entry that allows a mismatch.
    #[must_use]
    pub fn allowing(&self, exchange: &Exchange, mismatch: &Mismatch) -> Option<&Difference> {
        self.difference.iter().find(|entry| entry.allows(exchange, mismatch))
    }

    /// Whether a mismatch of these would send the scenario another way.
    #[must_use]
    pub fn parts(&self, exchange: &Exchange, mismatches: &[Mismatch]) -> bool {
        mismatches.iter().any(|found| self.allowing(exchange, found).is_some_and(|entry| entry.parts))
    }
}

impl Difference {
    fn allows(&self, exchange: &Exchange, mismatch: &Mismatch) -> bool {
        self.shift.is_none()
            && (self.seq.is_empty() || self.seq.contains(&exchange.seq))
            && (self.procedure.is_empty() || self.procedure == exchange.procedure())
            && self.reaches(&mismatch.pointer)
            && self.recorded.as_ref().is_none_or(|value| Some(value) == mismatch.recorded.as_ref())
            && (self.accept.is_empty() || mismatch.live.as_ref().is_some_and(|live| self.accept.contains(live)))
            && (self.odd_number.is_empty() || self.odd_number.iter().any(|at| odd(exchange, at)))
    }

    fn reaches(&self, pointer: &str) -> bool {
        match self.pointer.strip_suffix('*') {
            Some(above) => pointer.starts_with(above.trim_end_matches('/')),
            None => pointer == self.pointer,
        }
    }
}

fn odd(exchange: &Exchange, pointer: &str) -> bool {
    let number = exchange.request_body.as_ref().and_then(|body| body.pointer(pointer)).and_then(Value::as_f64);
    number.is_some_and(|number| number == 0.0 || number.fract() != 0.0)
}
