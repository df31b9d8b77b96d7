//! What claims have handed out.
//!
//! A live server may hand runs out singly or more at once, and earlier than the recorded one. Runs
//! that came early wait in a pool until the recording hands them out too.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::ids::{Ids, each_id};
use super::names::{Names, SYSTEM};
use super::recording::Exchange;
use super::timeline::{Timeline, claimed, is_write, runs_of};

/// Runs that the live server handed out before the recorded one did, by recorded id.
#[derive(Debug, Default)]
pub struct Claims {
    early: HashSet<String>,
}

impl Claims {
    /// Takes a run out of the pool.
    pub fn take(&mut self, run: &str) -> bool {
        self.early.remove(run)
    }

    /// Whether a run is in the pool.
    #[must_use]
    pub fn holds(&self, run: &str) -> bool {
        self.early.contains(run)
    }

    /// Puts a run into the pool, if the recording hands it out later to the same kind of claim and
    /// nobody changes the run before that; else the server gave away what it should not have.
    pub fn came_early(&mut self, timeline: &Timeline, place: usize, run: &str) -> bool {
        let Some(this) = timeline.exchanges.get(place) else { return false };
        for later in timeline.exchanges.iter().skip(place + 1) {
            if claimed(later).any(|id| id == run) {
                let ok = same_kind(this, later) && self.early.insert(run.to_owned());
                return ok;
            }
            if is_write(later) && later.status == 200 && runs_of(later).iter().any(|id| id == run) {
                return false;
            }
        }
        false
    }
}

fn same_kind(one: &Exchange, other: &Exchange) -> bool {
    let field = |exchange: &Exchange, name: &str| exchange.input().and_then(|input| input.get(name)).cloned();
    field(one, "workflows") == field(other, "workflows") && field(one, "pools") == field(other, "pools")
}

/// Runs that claims from a place on hand out and for which no live run is known yet: the server
/// makes them by itself (schedules, cancellation of children).
#[must_use]
pub fn unborn<'t>(timeline: &'t Timeline, place: usize, ids: &Ids) -> Vec<&'t str> {
    let mut out: Vec<&str> = Vec::new();
    for run in timeline.exchanges.iter().skip(place).flat_map(claimed) {
        if ids.bound(run).is_none() && !timeline.foreign.contains(run) && !out.contains(&run) {
            out.push(run);
        }
    }
    out
}

/// Whether a live record can be that of a recorded run which the server made by itself.
#[must_use]
pub fn fits(timeline: &Timeline, names: &Names, ids: &Ids, run: &str, live: &Value) -> bool {
    let Some(recorded) = timeline.record(run) else { return owned(names, ids, live) };
    let recorded = names.value("", recorded);
    let same = |field: &str| recorded.get(field).map(|value| ids.value(value)).as_ref() == live.get(field);
    ["name", "versionId", "source", "input", "scheduleId"].into_iter().all(same)
}

/// Whether a live run has to do with this scenario at all; an older session may have left runs of
/// the system behind.
#[must_use]
pub fn owned(names: &Names, ids: &Ids, live: &Value) -> bool {
    let mut known = live.get("name").and_then(Value::as_str).is_some_and(|name| names.owns(name));
    for field in ["input", "scheduleId"] {
        each_id(live.get(field).unwrap_or(&Value::Null), &mut |id| known |= ids.recorded(id).is_some());
    }
    known
}

/// Leaves the system's workflow out of a claim, so that a scenario which is never given a run of
/// it takes none from another.
pub fn without_system(body: &mut Value) {
    let Some(list) = body.pointer_mut("/json/workflows").and_then(Value::as_array_mut) else { return };
    let system = |entry: &Value| entry["source"] == json!("system") && entry["name"] == json!(SYSTEM);
    if !list.iter().all(system) {
        list.retain(|entry| !system(entry));
    }
}
