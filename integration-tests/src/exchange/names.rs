//! Names of workflows, made unique for one replay.
//!
//! Scenarios share names of workflows and ids of references, and a server may have been used
//! before. With a prefix before every workflow's name no replay sees the runs, references or
//! definitions of another. Nothing that a client hashes holds the name of a workflow, and its place
//! in a sorted list stays the same.

use serde_json::{Map, Value};

/// Payloads belong to the user: what was sent comes back to the letter, and names inside them are not ours.
pub(super) const PAYLOADS: [&str; 4] = ["input", "output", "data", "workflowRunInput"];

/// The system's own workflow, which most workers of the recordings list but few are given.
pub(super) const SYSTEM: &str = "cancel-child-runs";

/// The prefix of one replay.
#[derive(Debug, Clone)]
pub struct Names {
    prefix: String,
}

impl Names {
    /// `prefix` goes before every name of a user's workflow and every reference of a schedule.
    #[must_use]
    pub fn new(prefix: impl Into<String>) -> Self {
        Self { prefix: prefix.into() }
    }

    /// Whether a live name belongs to this replay.
    #[must_use]
    pub fn owns(&self, name: &str) -> bool {
        name.starts_with(&self.prefix)
    }

    /// A recorded body as it is sent to, or expected from, `procedure`.
    #[must_use]
    pub fn value(&self, procedure: &str, recorded: &Value) -> Value {
        self.walk(procedure.starts_with("schedule/"), recorded)
    }

    fn walk(&self, schedule: bool, value: &Value) -> Value {
        match value {
            Value::Array(values) => values.iter().map(|value| self.walk(schedule, value)).collect(),
            Value::Object(fields) => self.object(schedule, fields),
            other => other.clone(),
        }
    }

    fn object(&self, schedule: bool, fields: &Map<String, Value>) -> Value {
        let names_workflow = fields.contains_key("versionId") || fields.contains_key("source");
        // A list of runs does not say whose a workflow is.
        let system = fields
            .get("source")
            .map_or_else(|| fields.get("name").is_some_and(|name| name == SYSTEM), |source| source == "system");
        let one = |(key, value): (&String, &Value)| {
            let ours = match key.as_str() {
                "name" => names_workflow && !system,
                "workflowName" | "namePrefix" => true,
                "referenceId" => schedule,
                _ => false,
            };
            let value = match value {
                Value::String(text) if ours && !text.is_empty() => Value::String(format!("{}{text}", self.prefix)),
                Value::Object(reference) if key == "reference" && schedule => self.reference(reference),
                Value::Object(children) if key == "childWorkflowRuns" => {
                    let child = |(address, list): (&String, &Value)| {
                        (format!("{}{address}", self.prefix), self.walk(schedule, list))
                    };
                    children.iter().map(child).collect()
                }
                value if PAYLOADS.contains(&key.as_str()) => value.clone(),
                value => self.walk(schedule, value),
            };
            (key.clone(), value)
        };
        fields.iter().map(one).collect()
    }

    fn reference(&self, fields: &Map<String, Value>) -> Value {
        let mut fields = fields.clone();
        if let Some(Value::String(id)) = fields.get_mut("id")
            && !id.is_empty()
        {
            id.insert_str(0, &self.prefix);
        }
        Value::Object(fields)
    }
}
