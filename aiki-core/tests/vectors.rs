//! Checks input hash, retry, duration and rank against the vectors of the HTTP contract, and the canonical text
//! against properties that no list of vectors can cover.

use std::collections::BTreeSet;
use std::time::Duration;

use aiki_core::duration::{WireDuration, WireDurationError};
use aiki_core::hash::{canonical, input_hash};
use aiki_core::rank::{Rank, republish_backoff};
use aiki_core::retry::RetryStrategy;
use aiki_core::run::RunOptions;
use aiki_core::schedule::{ScheduleSpec, definition_hash};
use aiki_core::{InputHash, WorkflowKey};
use proptest::prelude::*;
use serde_json::{Map, Value};

const HASH_VECTORS: &str = include_str!("vectors/hash-vectors.json");
const VECTORS: &str = include_str!("vectors/vectors.json");

/// Vectors about values that JSON text cannot express; they concern JavaScript senders only.
const NOT_JSON: [&str; 12] = [
    "Date becomes {}",
    "Infinity",
    "NaN",
    "array of ids",
    "nested undefined only",
    "run id string (system workflow)",
    "typeof bigint",
    "typeof function",
    "typeof object",
    "typeof symbol",
    "undefined in array is null",
    "undefined key dropped",
];

fn part(name: &str, count: usize) -> Vec<Value> {
    let Ok(Value::Array(part)) = serde_json::from_str(VECTORS).map(|mut all: Value| all[name].take()) else {
        panic!("the vectors have no list {name}");
    };
    assert_eq!(part.len(), count, "{name}");
    part
}

#[test]
fn input_hashes() {
    let vectors: Vec<Value> = serde_json::from_str(HASH_VECTORS).unwrap();
    assert_eq!(vectors.len(), 55);
    let mut skipped = BTreeSet::new();
    for vector in &vectors {
        let label = vector["label"].as_str().unwrap();
        let input = vector["inputJson"].as_str();
        if let Some(text) = vector["canonical"].as_str().and_then(|text| text.strip_prefix("{\"input\":")) {
            // What is canonical already stays as it is.
            let hash = input_hash(text.strip_suffix('}')).unwrap();
            assert_eq!(hash.as_str(), vector["hash"].as_str().unwrap(), "{label}");
        }
        if input.is_none() && label != "no input (undefined)" {
            skipped.insert(label);
            continue;
        }
        assert_eq!(canonical(input).unwrap(), vector["canonical"].as_str().unwrap(), "{label}");
        assert_eq!(input_hash(input).unwrap().as_str(), vector["hash"].as_str().unwrap(), "{label}");
    }
    assert_eq!(skipped, BTreeSet::from(NOT_JSON));
}

#[test]
fn schedule_definition_hashes() {
    for vector in part("scheduleDefinitionHash", 2) {
        let definition = &vector["definition"];
        let text = |name: &str| definition[name].as_str().unwrap();
        let workflow = WorkflowKey::user(text("workflowName"), text("workflowVersionId"));
        let spec: ScheduleSpec = serde_json::from_value(definition["spec"].clone()).unwrap();
        let options = definition.get("workflowRunOptions");
        let options = options.map(|options| serde_json::from_value::<RunOptions>(options.clone()).unwrap());
        let input_hash = InputHash::from(text("workflowRunInputHash").to_owned());
        let hash = definition_hash(&workflow, &spec, &input_hash, options.as_ref()).unwrap();
        assert_eq!(hash.as_str(), vector["hash"].as_str().unwrap(), "{vector}");
    }
}

#[test]
fn retry_delays() {
    for vector in part("retry", 38) {
        let strategy: RetryStrategy = serde_json::from_value(vector["strategy"].clone()).unwrap();
        assert_eq!(strategy.validate(), Ok(()), "{vector}");
        assert_eq!(serde_json::to_value(&strategy).unwrap(), vector["strategy"]);
        let failed = vector["attempts"].as_u64().unwrap();
        let random = vector["random"].as_f64().unwrap_or(f64::NAN);
        let expected = vector["result"]["delayMs"].as_f64();
        assert_eq!(vector["result"]["retriesLeft"], expected.is_some(), "{vector}");
        assert_eq!(strategy.delay_ms_after(failed, random), expected, "{vector}");
        // Beyond 285 thousand years the delay is cut.
        let whole = expected.map(|ms| Duration::from_millis((ms as u64).min(9_007_199_254_740_991)));
        assert_eq!(strategy.delay_after(failed, random), whole, "{vector}");
    }
}

#[test]
fn durations() {
    for vector in part("duration", 11) {
        let duration = serde_json::from_value::<WireDuration>(vector["duration"].clone());
        if vector.get("throws").is_none() {
            let duration = duration.unwrap();
            assert_eq!(duration.as_ms(), vector["ms"].as_f64().unwrap(), "{vector}");
            assert_eq!(serde_json::to_value(duration).unwrap(), vector["ms"], "{vector}");
            continue;
        }
        let error = duration.unwrap_err().to_string();
        match &vector["duration"] {
            Value::Number(_) => assert!(error.contains("`duration` must not be negative"), "{error}"),
            Value::Object(_) => assert!(error.contains("`seconds` must not be negative"), "{error}"),
            // JSON has no infinity; the vector spells it as text.
            infinity => {
                let error = WireDuration::from_ms(infinity.as_str().unwrap().parse().unwrap()).unwrap_err();
                assert_eq!(error, WireDurationError::NotFinite { field: "duration", value: f64::INFINITY });
            }
        }
    }
}

#[test]
fn ranks() {
    for vector in part("rank", 2) {
        let due_at_ms = vector["dueAt"].as_u64().unwrap();
        let rank = Rank::plain(due_at_ms);
        assert_eq!(serde_json::to_value(rank).unwrap(), vector["rank"], "{vector}");
        assert_eq!(Rank::with_digit(due_at_ms, 0).as_u64(), vector["rankPriority0"], "{vector}");
        assert_eq!(rank.due_at_ms(), due_at_ms);
    }
}

#[test]
fn republish_backoffs() {
    for vector in part("republishBackoff", 7) {
        let ms = |name: &str| Duration::from_millis(vector[name].as_u64().unwrap());
        assert_eq!(republish_backoff(ms("ageMs")), ms("backoffMs"), "{vector}");
    }
}

/// Any JSON value whose objects have all kinds of keys.
fn any_json() -> impl Strategy<Value = Value> {
    let text = prop_oneof!["[a-c]{0,3}", any::<String>()];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        text.clone().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 6, move |inner| {
        let members = prop::collection::vec((text.clone(), inner.clone()), 0..6);
        prop_oneof![
            prop::collection::vec(inner, 0..6).prop_map(Value::from),
            members.prop_map(|members| Value::from(Map::from_iter(members))),
        ]
    })
}

/// Writes `value` with white space, key order and escapes that depend on `seed`.
fn write_freely(value: &Value, seed: &mut u64, out: &mut String) {
    let mut dice = |sides: u64| {
        *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*seed >> 33) % sides
    };
    let space = ["", "", " ", "\t", "\r\n"][dice(5) as usize];
    out.push_str(space);
    match value {
        Value::String(text) if dice(2) == 0 => {
            let units = text.encode_utf16().map(|unit| format!("\\u{unit:04X}"));
            out.push_str(&format!("\"{}\"", units.collect::<String>()));
        }
        Value::Array(elements) => {
            let mut bracket = '[';
            for element in elements {
                out.push(std::mem::replace(&mut bracket, ','));
                write_freely(element, seed, out);
            }
            out.push_str(if bracket == '[' { "[]" } else { "]" });
        }
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_by_cached_key(|_| dice(100));
            let mut bracket = '{';
            for (key, value) in members {
                out.push(std::mem::replace(&mut bracket, ','));
                write_freely(&Value::from(key.as_str()), seed, out);
                out.push(':');
                write_freely(value, seed, out);
            }
            out.push_str(if bracket == '{' { "{}" } else { "}" });
        }
        _ => out.push_str(&value.to_string()),
    }
    out.push_str(space);
}

proptest! {
    #[test]
    fn canonical_text_depends_on_the_value_alone(value in any_json(), mut seed: u64) {
        let plain = canonical(Some(&value.to_string())).unwrap();
        let mut text = String::new();
        write_freely(&value, &mut seed, &mut text);
        prop_assert_eq!(canonical(Some(&text)).unwrap(), plain.as_str(), "{}", text);

        let inner = plain.strip_prefix("{\"input\":").and_then(|rest| rest.strip_suffix('}')).unwrap();
        prop_assert_eq!(canonical(Some(inner)).unwrap(), plain.as_str());
    }

    #[test]
    fn only_json_is_accepted(text in r#"[-0-9.eE+\[\]{},:"\\u null]{0,12}"#) {
        let json = serde_json::from_str::<&serde_json::value::RawValue>(&text).is_ok();
        prop_assert_eq!(canonical(Some(&text)).is_ok(), json, "{}", text);
    }
}
