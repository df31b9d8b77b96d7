//! Whether completed sleeps were as long as asked for (section 12.11 of the contract).

use std::collections::HashMap;

use serde_json::{Value, json};

use super::compare::Mismatch;
use super::recording::Exchange;
use super::timeline::target;

/// What each run asked for, by name, ms.
#[derive(Debug, Default)]
pub struct Sleeps {
    asked: HashMap<(String, String), Vec<f64>>,
}

impl Sleeps {
    /// Remembers what a successful request asked for.
    pub fn note(&mut self, exchange: &Exchange) {
        let state = exchange.input().and_then(|input| input.get("state")).filter(|_| exchange.status == 200);
        let name = state.and_then(|state| state.get("sleepName")?.as_str());
        let duration = state.and_then(|state| state.get("durationMs")?.as_f64());
        if let (Some(run), Some(name), Some(duration)) = (target(exchange), name, duration) {
            self.asked.entry((run.to_owned(), name.to_owned())).or_default().push(duration);
        }
    }

    /// Completed sleeps of a live record that were cut short.
    #[must_use]
    pub fn too_short(&self, exchange: &Exchange, live: Option<&Value>) -> Vec<Mismatch> {
        let sleeps = live.and_then(|body| body.pointer("/json/run/sleeps")).and_then(Value::as_object);
        let Some(run) = exchange.output().and_then(|output| output.pointer("/run/id")).and_then(Value::as_str) else {
            return Vec::new();
        };
        let mut out = Vec::new();
        for (name, entries) in sleeps.into_iter().flatten() {
            let asked = self.asked.get(&(run.to_owned(), name.clone())).into_iter().flatten();
            for (place, (entry, asked)) in entries.as_array().into_iter().flatten().zip(asked).enumerate() {
                let slept = entry.get("durationMs").and_then(Value::as_f64);
                if slept.is_some_and(|slept| slept < *asked) {
                    let pointer = format!("/json/run/sleeps/{name}/{place}/durationMs");
                    let recorded = Some(json!(format!("at least {asked}")));
                    out.push(Mismatch { pointer, recorded, live: slept.map(|slept| json!(slept)) });
                }
            }
        }
        out
    }
}
