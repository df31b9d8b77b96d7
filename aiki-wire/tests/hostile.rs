//! Whatever comes, it is refused or read: nothing panics, and nothing is read that is not what it seems.

#![allow(clippy::unwrap_used, reason = "tests")]

use aiki_wire::contract::run_transition::RunTransition;
use aiki_wire::contract::schedule::ActivateV1;
use aiki_wire::contract::start::CreateV1;
use aiki_wire::contract::task_request::{SetTaskState, TaskTransition};
use aiki_wire::depth::is_deeper_than;
use aiki_wire::envelope::open_request;
use aiki_wire::read::{At, Read};
use proptest::prelude::*;
use serde_json::Value;
use serde_json::value::RawValue;

/// JSON out of the words of the contract.
fn value() -> impl Strategy<Value = Value> {
    let word = prop::sample::select(vec![
        "optimistic",
        "pessimistic",
        "create",
        "retry",
        "new",
        "existing",
        "running",
        "completed",
        "failed",
        "awaiting_retry",
        "awaiting_event",
        "sleeping",
        "scheduled",
        "self",
        "task",
        "delayed",
        "interval",
        "cron",
        "fixed",
        "",
        "x",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-2_i64..10).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        word.prop_map(Value::from),
    ];
    let key = prop::sample::select(vec![
        "type",
        "id",
        "name",
        "versionId",
        "inputHash",
        "value",
        "state",
        "status",
        "expectedRevision",
        "durationMs",
        "sleepName",
        "eventName",
        "cause",
        "error",
        "message",
        "taskId",
        "nextAttemptInMs",
        "taskState",
        "attempts",
        "workflowRunId",
        "expectedWorkflowRunRevision",
        "taskName",
        "options",
        "retry",
        "trigger",
        "delayMs",
        "delay",
        "seconds",
        "spec",
        "everyMs",
        "expression",
        "reference",
        "output",
    ]);
    leaf.prop_recursive(5, 60, 12, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(key.clone().prop_map(str::to_owned), inner, 0..12)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

fn written_again<T: Read + serde::Serialize + PartialEq + std::fmt::Debug>(raw: &RawValue) {
    if let Ok(read) = T::read(raw, &At::ROOT) {
        let text = serde_json::value::to_raw_value(&read).unwrap();
        assert_eq!(T::read(&text, &At::ROOT).unwrap(), read, "{text}");
    }
}

const RECORDED: &str = include_str!("recorded.jsonl");

fn nodes(value: &Value) -> usize {
    1 + match value {
        Value::Array(elements) => elements.iter().map(nodes).sum(),
        Value::Object(fields) => fields.values().map(nodes).sum(),
        _ => 0,
    }
}

/// Puts `part` in the place of the node that is `left` nodes away.
fn replace(value: &mut Value, left: &mut usize, part: Value) -> bool {
    if *left == 0 {
        *value = part;
        return true;
    }
    *left -= 1;
    match value {
        Value::Array(elements) => elements.iter_mut().any(|element| replace(element, left, part.clone())),
        Value::Object(fields) => fields.values_mut().any(|field| replace(field, left, part.clone())),
        _ => false,
    }
}

proptest! {
    #[test]
    fn any_bytes_are_opened_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = open_request(&bytes, 10);
    }

    #[test]
    fn any_meta_is_applied_or_refused(json in value(), meta in value(), entries in prop::collection::vec(
        prop::collection::vec(prop_oneof![(0_u64..9).prop_map(Value::from), value()], 0..4), 0..4)) {
        for meta in [meta, serde_json::json!(entries)] {
            let body = serde_json::json!({ "json": json, "meta": meta }).to_string();
            let _ = open_request(body.as_bytes(), 100);
        }
    }

    #[test]
    fn a_recorded_request_with_a_wrong_part_is_refused_or_read_alike(
        line in any::<prop::sample::Index>(), place in any::<prop::sample::Index>(), part in value()
    ) {
        let recorded: Vec<Value> = RECORDED.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let recorded = line.get(&recorded);
        let mut request = recorded["request"]["json"].clone();
        let count = nodes(&request);
        replace(&mut request, &mut place.index(count), part);
        let raw = serde_json::value::to_raw_value(&request).unwrap();
        match recorded["call"].as_str().unwrap() {
            "workflowRun/createV1" => written_again::<CreateV1>(&raw),
            "workflowRun/transitionStateV1" => written_again::<RunTransition>(&raw),
            "task/transitionStateV1" => written_again::<TaskTransition>(&raw),
            "task/setStateV1" => written_again::<SetTaskState>(&raw),
            "schedule/activateV1" => written_again::<ActivateV1>(&raw),
            _ => {}
        }
    }

    #[test]
    fn depth_is_counted_as_a_parser_counts_it(value in value()) {
        fn depth(value: &Value) -> usize {
            match value {
                Value::Array(elements) => 1 + elements.iter().map(depth).max().unwrap_or(0),
                Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or(0),
                _ => 0,
            }
        }
        let (text, deep) = (value.to_string(), depth(&value));
        prop_assert!(!is_deeper_than(deep, text.as_bytes()));
        prop_assert!(deep == 0 || is_deeper_than(deep - 1, text.as_bytes()));
    }
}
