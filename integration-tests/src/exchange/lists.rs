//! Lists of a namespace that other scenarios share.
//!
//! The recorded server was not empty and the live one need not be: such a list shows what belongs
//! to others. Both sides are cut down to what belongs to this scenario. Counts that others
//! contribute to are only checked to be counts.

use serde_json::{Map, Value, json};

use super::ids::Ids;
use super::names::Names;
use super::recording::Exchange;
use super::timeline::Timeline;

/// Both outputs, cut down to one scenario.
#[derive(Debug, PartialEq)]
pub struct Cut {
    /// What is expected, with live names but recorded ids.
    pub recorded: Value,
    /// What came.
    pub live: Value,
}

/// The list inside the output of a procedure, if it is one that others share.
fn list_of(procedure: &str) -> Option<&'static str> {
    match procedure {
        "workflowRun/listV1" => Some("runs"),
        "schedule/listV1" => Some("schedules"),
        "workflow/listV1" => Some("workflows"),
        "workflow/listVersionsV1" => Some("versions"),
        _ => None,
    }
}

/// Cuts both down; nothing when the procedure gives no such list. `recorded` has live names.
#[must_use]
pub fn cut(
    exchange: &Exchange,
    timeline: &Timeline,
    names: &Names,
    ids: &Ids,
    recorded: &Value,
    live: &Value,
) -> Option<Cut> {
    if exchange.procedure() == "workflow/getStatsV1" {
        return Some(stats(exchange, timeline, recorded, live));
    }
    let list = list_of(exchange.procedure())?;
    let items = |value: &Value| value.get(list).and_then(Value::as_array).cloned();
    let (ours, theirs) = (items(recorded)?, items(live)?);
    let total = |value: &Value| value.get("total").and_then(Value::as_u64);
    let complete = |value: &Value, items: &[Value]| total(value) == u64::try_from(items.len()).ok();
    let both_complete = complete(recorded, &ours) && complete(live, &theirs);
    let alone = isolated(exchange);
    let mut kept: Vec<Value> = ours.iter().filter(|item| is_recorded_own(item, timeline, names)).cloned().collect();
    if list == "runs" && asks_for_system(exchange) {
        kept.retain(|item| key_of(item).is_some_and(|id| ids.bound(id).is_some()));
    }
    let mut live_kept: Vec<Value> =
        theirs.iter().filter(|item| alone || is_live_own(item, names, ids)).cloned().collect();
    if !both_complete && (!alone || kept.len() < ours.len()) {
        // A page of a longer list: what both pages show has to be the same.
        let live_key = |item: &Value| key_of(item).map(|key| ids.text(key));
        let theirs: Vec<String> = live_kept.iter().filter_map(|item| key_of(item).map(str::to_owned)).collect();
        kept.retain(|item| live_key(item).is_some_and(|key| theirs.contains(&key)));
        let ours: Vec<String> = kept.iter().filter_map(live_key).collect();
        live_kept.retain(|item| key_of(item).is_some_and(|key| ours.iter().any(|own| own == key)));
    }
    let mut blurred = false;
    for item in &mut kept {
        blurred |= count(item, &mut live_kept, exchange, timeline);
    }
    let sort = exchange.input().and_then(|input| input.pointer("/sort/field")?.as_str());
    if blurred && sort.map_or(exchange.procedure() == "workflow/listVersionsV1", |field| field != "name") {
        // What they were sorted by was not this scenario's alone either.
        let place = |live: &Value| kept.iter().position(|item| key_of(item) == key_of(live));
        live_kept.sort_by_key(place);
    }
    let foreign = |all: &[Value], kept: &[Value]| all.len().abs_diff(kept.len());
    let (mut cut_recorded, mut cut_live) = (recorded.clone(), live.clone());
    let totals = both_complete || (alone && kept.len() == ours.len());
    set(&mut cut_recorded, total(recorded).filter(|_| totals), foreign(&ours, &kept), list, kept);
    set(&mut cut_live, total(live).filter(|_| totals), foreign(&theirs, &live_kept), list, live_kept);
    Some(Cut { recorded: cut_recorded, live: cut_live })
}

fn set(output: &mut Value, total: Option<u64>, foreign: usize, list: &str, kept: Vec<Value>) {
    let Some(fields) = output.as_object_mut() else { return };
    fields.insert(list.to_owned(), Value::from(kept));
    if fields.get("total").is_some_and(Value::is_u64) {
        let own = total.map(|total| total.saturating_sub(u64::try_from(foreign).unwrap_or_default()));
        fields.insert("total".to_owned(), own.map_or_else(|| json!("a count"), |own| json!(own)));
    }
}

/// Whether the request itself names what belongs to this scenario alone.
fn isolated(exchange: &Exchange) -> bool {
    let Some(input) = exchange.input() else { return false };
    if asks_for_system(exchange) {
        return false;
    }
    let named = |field: &str| input.pointer(field).is_some();
    [
        "/name",
        "/namePrefix",
        "/filters/id",
        "/filters/scheduleId",
        "/filters/workflow",
        "/filters/workflows",
        "/filters/referenceId",
    ]
    .into_iter()
    .any(named)
}

/// Whether a list is of the system's workflow, whose runs all scenarios share.
#[must_use]
pub fn asks_for_system(exchange: &Exchange) -> bool {
    let at = match exchange.procedure() {
        "workflowRun/listV1" => "/filters/workflow/source",
        "workflow/listV1" => "/source",
        _ => return false,
    };
    exchange.input().and_then(|input| input.pointer(at)) == Some(&json!("system"))
}

fn key_of(item: &Value) -> Option<&str> {
    let item = item.get("schedule").unwrap_or(item);
    item.get("id").or_else(|| item.get("versionId")).or_else(|| item.get("name"))?.as_str()
}

fn is_recorded_own(item: &Value, timeline: &Timeline, names: &Names) -> bool {
    let id = item.get("schedule").unwrap_or(item).get("id").and_then(Value::as_str);
    let Some(id) = id else {
        // A workflow or version: its own when the scenario ran or scheduled it.
        return item.get("name").and_then(Value::as_str).is_none_or(|name| uses(timeline, names, name));
    };
    !timeline.foreign.contains(id)
}

fn uses(timeline: &Timeline, names: &Names, live_name: &str) -> bool {
    let named = |exchange: &Exchange| {
        let input = exchange.request_body.as_ref().map(|body| names.value(exchange.procedure(), body));
        let field = |at: &str| input.as_ref().and_then(|input| input.pointer(at)) == Some(&json!(live_name));
        exchange.status == 200
            && (field("/json/name") && exchange.procedure() == "workflowRun/createV1" || field("/json/workflowName"))
    };
    timeline.exchanges.iter().any(named)
}

fn is_live_own(item: &Value, names: &Names, ids: &Ids) -> bool {
    let item = item.get("schedule").unwrap_or(item);
    let name = item.get("name").or_else(|| item.get("workflowName")).and_then(Value::as_str);
    let id = item.get("id").and_then(Value::as_str);
    name.is_some_and(|name| names.owns(name)) || id.is_some_and(|id| ids.recorded(id).is_some())
}

/// Counts that were not this scenario's alone become "a count" on both sides. Whether this one was such.
fn count(item: &mut Value, live: &mut [Value], exchange: &Exchange, timeline: &Timeline) -> bool {
    let Some(recorded) = item.get("runCount").and_then(Value::as_u64).filter(|_| item.get("id").is_none()) else {
        return false;
    };
    if item.get("schedule").is_some() || recorded == created(exchange, timeline, item) {
        return false;
    }
    let Some(key) = key_of(item).map(str::to_owned) else { return false };
    let twin = live.iter_mut().find(|live| key_of(live) == Some(&key));
    for side in [Some(item), twin].into_iter().flatten().filter_map(Value::as_object_mut) {
        if side.get("runCount").is_some_and(Value::is_u64) {
            side.insert("runCount".to_owned(), json!("a count"));
        }
    }
    true
}

/// How many runs of the workflow the scenario had created by then.
fn created(exchange: &Exchange, timeline: &Timeline, item: &Value) -> u64 {
    let wanted = |field: &str| item.get(field).and_then(Value::as_str);
    let earlier = timeline.exchanges.iter().take_while(|other| other.seq != exchange.seq);
    let fits = |other: &Exchange| {
        let field = |at: &str| other.input().and_then(|input| input.get(at)).and_then(Value::as_str);
        let name = wanted("name").or_else(|| exchange.input()?.get("name")?.as_str()).unwrap_or_default();
        other.procedure() == "workflowRun/createV1"
            && field("name").is_some_and(|own| name.ends_with(own))
            && wanted("versionId").is_none_or(|version| field("versionId") == Some(version))
    };
    let runs = earlier.filter(|other| fits(other)).filter_map(|other| other.output()?.get("id")?.as_str());
    u64::try_from(runs.collect::<std::collections::HashSet<_>>().len()).unwrap_or_default()
}

fn stats(exchange: &Exchange, timeline: &Timeline, recorded: &Value, live: &Value) -> Cut {
    let counts = |value: &Value| value.pointer("/stats/runsByStatus").and_then(Value::as_object).cloned();
    let (Some(ours), Some(theirs)) = (counts(recorded), counts(live)) else {
        return Cut { recorded: recorded.clone(), live: live.clone() };
    };
    let sum: u64 = ours.values().filter_map(Value::as_u64).sum();
    let item = exchange.input().cloned().unwrap_or_default();
    let exact = exchange.input().is_some() && (sum == 0 || sum == created(exchange, timeline, &item));
    if exact {
        return Cut { recorded: recorded.clone(), live: live.clone() };
    }
    let blur = |counts: Map<String, Value>| -> Value {
        let one = |(status, count): (String, Value)| (status, if count.is_u64() { json!("a count") } else { count });
        json!({"stats": {"runsByStatus": counts.into_iter().map(one).collect::<Map<_, _>>()}})
    };
    Cut { recorded: blur(ours), live: blur(theirs) }
}
