//! Every procedure, asked in one namespace for what another one has.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::collections::BTreeSet;
use std::time::Duration;

use aiki_core::listing::{VersionsQuery, WorkflowsQuery};
use axum::http::StatusCode;
use serde_json::{Value, json};

use super::Role;
use super::walk::{House, procedures};
use crate::{Server, ServerBuilder};

/// What there is in a namespace, as a caller could name it.
#[derive(Clone, Debug)]
struct Things {
    workflow: &'static str,
    reference: &'static str,
    /// Running, by the contract, with a task, a child and this revision.
    running: String,
    revision: u64,
    task: String,
    child: String,
    /// Held by the worker `w` under this epoch.
    held: String,
    epoch: u64,
    queued: String,
    schedule: String,
}

impl Things {
    /// What nobody has.
    fn nobodys() -> Self {
        let id = |number: u8| format!("01K000000000000000000000{number:02}");
        Self {
            workflow: "nobodys",
            reference: "nobody",
            running: id(1),
            revision: 2,
            task: id(2),
            child: id(3),
            held: id(4),
            epoch: 1,
            queued: id(5),
            schedule: id(6),
        }
    }

    fn ids(&self) -> [&str; 6] {
        [&self.running, &self.task, &self.child, &self.held, &self.queued, &self.schedule]
    }

    /// The text with neither ids nor names of these things.
    fn masked(&self, text: &str) -> String {
        let names = [self.workflow, self.reference];
        self.ids().into_iter().chain(names).fold(text.to_owned(), |text, id| text.replace(id, "-"))
    }
}

/// What who asks for somebody else's things has to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    /// There is no such thing.
    Nothing,
    /// Of each thing that there is none.
    NothingOfEach,
    /// Whatever is told when nobody has such things: an empty list, a count of 0, that a claim is lost.
    AsIfNobodysWere,
    /// Something of the caller's own.
    Own,
}
use Told::{AsIfNobodysWere, Nothing, NothingOfEach, Own};

/// The calls: procedure, input, what is told. `mine` is a running run of the caller, and its revision.
fn calls(of: &Things, (mine, mine_revision): (&str, u64)) -> Vec<(&'static str, Value, Told)> {
    let Things { workflow, reference, running, revision, task, child, held, epoch, queued, schedule } = of;
    let key = json!({ "source": "user", "name": workflow, "versionId": "1" });
    let hash = json!({ "value": "h" });
    let new = json!({ "name": workflow, "versionId": "1", "inputHash": hash, "options": { "reference": { "id": reference } } });
    let adopted = |parent: &str, revision: u64| {
        json!({ "name": workflow, "versionId": "1", "inputHash": { "value": "x" },
            "parent": { "workflowRunId": parent, "expectedRevision": revision } })
    };
    let by_reference = json!({ "name": workflow, "versionId": "1", "referenceId": reference });
    let to = |id: &str, revision: u64, state: Value| json!({ "type": "optimistic", "id": id, "expectedRevision": revision, "state": state });
    let done = |run: &str, revision: u64| {
        json!({ "workflowRunId": run, "expectedWorkflowRunRevision": revision, "id": task,
            "taskState": { "status": "completed", "attempts": 1 } })
    };
    let set = |run: &str| json!({ "type": "existing", "workflowRunId": run, "id": task, "state": { "status": "completed", "output": 1 } });
    let activate = json!({ "workflowName": workflow, "workflowVersionId": "1", "workflowRunInputHash": hash,
        "spec": { "type": "interval", "everyMs": 20, "overlapPolicy": "skip" }, "options": { "reference": { "id": reference } } });
    let native_new =
        json!({ "key": "k", "run": { "workflow": key, "inputHash": "h", "reference": { "id": reference } } });
    let native_keyed = json!({ "key": "k", "run": { "workflow": key, "inputHash": "k" } });
    let native_result =
        |run: &str| json!({ "run": run, "target": { "existing": task }, "result": { "completed": { "output": 1 } } });
    let native_event = json!({ "event": { "run": running, "event": { "name": "e" } } });
    let claims = json!([{ "run": held, "epoch": epoch }]);
    let page = json!({ "order": "newest_first", "after": null, "offset": 0, "limit": 50 });
    let list = |filter: Value| json!({ "filter": filter, "page": page });
    let workflows = WorkflowsQuery { name_prefix: Some((*workflow).into()), ..WorkflowsQuery::default() };
    let native_activate = json!({ "workflow": key, "inputHash": "h", "reference": { "id": reference },
        "spec": { "type": "interval", "everyMs": 20, "overlapPolicy": "skip" } });
    vec![
        ("workflowRun/createV1", new, Own),
        ("workflowRun/createV1", adopted(running, *revision), Nothing),
        ("workflowRun/getByIdV1", json!({ "id": running }), Nothing),
        ("workflowRun/getByReferenceIdV1", by_reference.clone(), Nothing),
        ("workflowRun/getStateV1", json!({ "id": running }), Nothing),
        ("workflowRun/listV1", json!({ "filters": { "id": running } }), AsIfNobodysWere),
        ("workflowRun/listV1", json!({ "filters": { "scheduleId": schedule } }), AsIfNobodysWere),
        (
            "workflowRun/listV1",
            json!({ "filters": { "workflow": { "name": workflow, "source": "user" } } }),
            AsIfNobodysWere,
        ),
        ("workflowRun/listTransitionsV1", json!({ "id": running }), Nothing),
        ("workflowRun/listChildRunsV1", json!({ "id": running }), AsIfNobodysWere),
        ("workflowRun/hasTerminatedV1", json!({ "id": running, "afterStateTransitionId": running }), Nothing),
        ("workflowRun/sendEventV1", json!({ "id": running, "eventName": "e" }), Nothing),
        ("workflowRun/multicastEventV1", json!({ "ids": [running, queued], "eventName": "e" }), AsIfNobodysWere),
        ("workflowRun/multicastEventByReferenceV1", json!({ "references": [by_reference], "eventName": "e" }), Nothing),
        ("workflowRun/transitionStateV1", to(running, *revision, json!({ "status": "completed" })), Nothing),
        (
            "workflowRun/transitionStateV1",
            json!({ "type": "pessimistic", "id": queued, "state": { "status": "paused" } }),
            Nothing,
        ),
        (
            "workflowRun/transitionStateV1",
            to(
                mine,
                mine_revision,
                json!({ "status": "awaiting_child_workflow", "childWorkflowRunId": child,
                "childWorkflowRunStatus": "completed" }),
            ),
            Nothing,
        ),
        ("workflowRun/cancelByIdsV1", json!({ "ids": [running, queued] }), AsIfNobodysWere),
        ("workflowRun/claimReadyV1", json!({ "workflows": [key], "limit": 10 }), AsIfNobodysWere),
        ("workflowRun/claimRefreshV1", json!({ "id": running }), AsIfNobodysWere),
        ("task/getByIdV1", json!({ "id": task }), Nothing),
        ("task/transitionStateV1", done(running, *revision), Nothing),
        ("task/transitionStateV1", done(mine, mine_revision), Nothing),
        ("task/setStateV1", set(running), Nothing),
        ("task/setStateV1", set(mine), Nothing),
        ("schedule/activateV1", activate, Own),
        ("schedule/getByIdV1", json!({ "id": schedule }), Nothing),
        ("schedule/getByReferenceIdV1", json!({ "referenceId": reference }), Nothing),
        ("schedule/listV1", json!({ "filters": { "id": schedule } }), AsIfNobodysWere),
        ("schedule/listV1", json!({ "filters": { "referenceId": reference } }), AsIfNobodysWere),
        ("schedule/pauseV1", json!({ "id": schedule }), Nothing),
        ("schedule/resumeV1", json!({ "id": schedule }), Nothing),
        ("schedule/deactivateV1", json!({ "id": schedule }), Nothing),
        ("workflow/listV1", json!({ "source": "user", "namePrefix": workflow }), AsIfNobodysWere),
        ("workflow/listVersionsV1", json!({ "source": "user", "name": workflow }), AsIfNobodysWere),
        ("workflow/getStatsV1", json!({ "source": "user", "name": workflow }), AsIfNobodysWere),
        ("native/negotiateV1", json!({ "versions": [1] }), Own),
        ("native/createRuns", json!({ "runs": [native_new] }), Own),
        ("native/createRuns", json!({ "runs": [native_keyed] }), Own),
        ("native/startAndWait", json!({ "run": native_new, "timeoutMs": 0 }), Own),
        ("native/getRun", json!({ "run": running }), Nothing),
        ("native/getRunByReference", json!({ "workflow": key, "referenceId": reference }), Nothing),
        ("native/listChildRuns", json!({ "run": running }), AsIfNobodysWere),
        ("native/sendEvents", json!({ "events": [native_event] }), NothingOfEach),
        ("native/cancelRun", json!({ "run": queued }), Nothing),
        ("native/cancelRuns", json!({ "runs": [queued, running] }), AsIfNobodysWere),
        ("native/commandRun", json!({ "run": queued, "command": "pause" }), Nothing),
        ("native/awaitRuns", json!({ "runs": [running, queued], "timeoutMs": 0 }), NothingOfEach),
        ("native/awaitRuns", json!({ "runs": [running], "timeoutMs": 100 }), NothingOfEach),
        ("native/listWorkers", json!({}), Own),
        ("native/listRuns", list(json!({ "id": running })), AsIfNobodysWere),
        ("native/listRuns", list(json!({ "parent": running })), AsIfNobodysWere),
        ("native/listRuns", list(json!({ "referenceId": reference })), AsIfNobodysWere),
        ("native/countRuns", json!({ "filter": { "parent": running } }), AsIfNobodysWere),
        ("native/listWorkflows", json!({ "query": workflows }), AsIfNobodysWere),
        ("native/listWorkflowVersions", json!({ "query": VersionsQuery::of(*workflow) }), AsIfNobodysWere),
        ("native/runStats", json!({ "workflow": { "name": workflow } }), AsIfNobodysWere),
        ("native/exportRun", json!({ "run": running }), Nothing),
        ("native/getSignals", json!({ "run": running, "known": 0 }), Nothing),
        ("native/claimRuns", json!({ "worker": "w", "leaseMs": 60_000, "runs": [queued, held] }), AsIfNobodysWere),
        (
            "native/claimReadyRuns",
            json!({ "worker": "w", "leaseMs": 60_000, "workflows": [key], "limit": 10, "question": 7 }),
            AsIfNobodysWere,
        ),
        ("native/refreshRuns", json!({ "worker": "w", "leaseMs": 60_000, "claims": claims }), AsIfNobodysWere),
        ("native/releaseRuns", json!({ "worker": "w", "claims": claims }), AsIfNobodysWere),
        (
            "native/report",
            json!({ "reports": [{ "run": held, "epoch": epoch, "seq": 1, "signals": 0, "transitions": [{ "completed": {} }] }] }),
            AsIfNobodysWere,
        ),
        ("native/awaitNews", json!({ "worker": "w", "timeoutMs": 0 }), Own),
        ("native/announceWorker", json!({ "worker": "w", "serves": { "workflows": [], "pools": [] } }), Own),
        ("native/getSchedule", json!({ "schedule": schedule }), Nothing),
        ("native/getScheduleByReference", json!({ "referenceId": reference }), Nothing),
        ("native/listSchedules", json!({ "filter": { "id": schedule }, "limit": 10 }), AsIfNobodysWere),
        ("native/listSchedules", json!({ "filter": { "referenceId": reference }, "limit": 10 }), AsIfNobodysWere),
        ("native/activateSchedule", json!({ "schedule": native_activate }), Own),
        ("native/setScheduleStatus", json!({ "schedule": schedule, "status": "active" }), Nothing),
        ("native/setTaskResult", native_result(running), Nothing),
        ("native/setTaskResult", native_result(mine), Nothing),
    ]
}

/// These say nothing: what they have done shows elsewhere.
const SILENT: [&str; 2] = ["workflowRun/claimRefreshV1", "native/announceWorker"];

/// A house in which a bank has everything, and a shop a run.
struct Street<'a> {
    house: &'a House,
    /// The key of the shop.
    shop: String,
    /// The key of the bank.
    bank: String,
    things: Things,
    mine: (String, u64),
}

impl<'a> Street<'a> {
    /// In two namespaces that nobody had before.
    async fn new(house: &'a House, number: usize) -> Self {
        let [shop, bank] = ["shop", "bank"].map(|name| house.key(&format!("{name}-{number}"), Role::Admin, None));
        let mine = running(house, &shop, "mine").await;
        let (run, revision) = running(house, &bank, "orders").await;
        let ok = async |procedure, input| ok(house, &bank, procedure, input).await;
        let create = json!({ "type": "create", "taskName": "charge", "inputHash": "h", "workflowRunId": run,
            "expectedWorkflowRunRevision": revision });
        let task = id(&ok("task/transitionStateV1", create).await["taskInfo"]);
        let child = json!({ "name": "parts", "versionId": "1", "inputHash": { "value": "h" },
            "parent": { "workflowRunId": run, "expectedRevision": revision } });
        let child = id(&ok("workflowRun/createV1", child).await);
        let event = json!({ "id": run, "eventName": "secret", "data": 1 });
        ok("workflowRun/sendEventV1", event).await;
        let held = json!({ "name": "held", "versionId": "1", "inputHash": { "value": "h" } });
        let held = id(&ok("workflowRun/createV1", held).await);
        let claimed = ok("native/claimRuns", json!({ "worker": "w", "leaseMs": 3_600_000, "runs": [held] })).await;
        let epoch = claimed[0]["granted"]["epoch"].as_u64().unwrap();
        let serves = json!({ "workflows": [{ "name": "held", "versionId": "1" }], "pools": ["vault"] });
        ok("native/announceWorker", json!({ "worker": "w", "serves": serves })).await;
        let keyed =
            json!({ "workflow": { "name": "orders", "versionId": "1" }, "inputHash": "k", "delayMs": 3_600_000 });
        ok("native/createRuns", json!({ "runs": [{ "key": "k", "run": keyed }] })).await;
        let queued = json!({ "name": "orders", "versionId": "1", "inputHash": { "value": "h" },
            "options": { "reference": { "id": "order-77" } } });
        let queued = id(&ok("workflowRun/createV1", queued).await);
        let schedule = json!({ "workflowName": "orders", "workflowVersionId": "1", "workflowRunInputHash": { "value": "h" },
            "spec": { "type": "interval", "everyMs": 20, "overlapPolicy": "skip" }, "options": { "reference": { "id": "order-77" } } });
        let schedule = id(&ok("schedule/activateV1", schedule).await["schedule"]);
        // It has one run, which nobody works on, and then it stands still.
        let of_schedule = json!({ "filters": { "scheduleId": schedule } });
        while ok("workflowRun/listV1", of_schedule.clone()).await["total"] == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        ok("schedule/pauseV1", json!({ "id": schedule })).await;
        let (workflow, reference) = ("orders", "order-77");
        let things = Things { workflow, reference, running: run, revision, task, child, held, epoch, queued, schedule };
        Self { house, shop, bank, things, mine }
    }

    fn calls(&self, of: &Things) -> Vec<(&'static str, Value, Told)> {
        calls(of, (&self.mine.0, self.mine.1))
    }

    /// Everything that the bank has.
    async fn seen_by_the_bank(&self) -> Vec<Value> {
        let ok = async |procedure, input| ok(self.house, &self.bank, procedure, input).await;
        let page = json!({ "order": "oldest_first", "after": null, "offset": 0, "limit": 100 });
        let list = ok("native/listRuns", json!({ "filter": {}, "page": page })).await;
        let runs: Vec<String> = list["runs"].as_array().unwrap().iter().map(id).collect();
        let mut seen = vec![list];
        for run in &runs {
            let mut export = ok("native/exportRun", json!({ "run": run })).await;
            export.as_object_mut().unwrap().remove("exportedAt").unwrap();
            // The server itself announces it again after some seconds.
            export["run"]["head"].as_object_mut().unwrap().remove("announce");
            seen.push(export);
            seen.push(ok("native/getSignals", json!({ "run": run, "known": 0 })).await);
        }
        seen.push(ok("native/listSchedules", json!({ "limit": 10 })).await);
        seen.push(ok("native/listWorkers", json!({})).await);
        seen.push(ok("native/runStats", json!({})).await);
        seen
    }
}

fn id(of: &Value) -> String {
    of["id"].as_str().unwrap_or_else(|| panic!("no id in {of}")).to_owned()
}

async fn ok(house: &House, key: &str, procedure: &str, input: Value) -> Value {
    let answer = house.called(procedure, key, &input.to_string()).await;
    assert_eq!(answer.status, StatusCode::OK, "{procedure} {input}: {}", answer.body);
    serde_json::from_str::<Value>(&answer.body).map(|mut body| body["json"].take()).unwrap_or_default()
}

/// A run that its worker has begun, and its revision.
async fn running(house: &House, key: &str, workflow: &str) -> (String, u64) {
    let new = json!({ "name": workflow, "versionId": "1", "inputHash": { "value": "running" } });
    let run = id(&ok(house, key, "workflowRun/createV1", new).await);
    let served = json!({ "workflows": [{ "source": "user", "name": workflow, "versionId": "1" }], "limit": 1 });
    ok(house, key, "workflowRun/claimReadyV1", served).await;
    let found = ok(house, key, "workflowRun/getByIdV1", json!({ "id": run })).await;
    let begin = json!({ "type": "optimistic", "id": run, "expectedRevision": found["run"]["revision"],
        "state": { "status": "running" } });
    let revision = ok(house, key, "workflowRun/transitionStateV1", begin).await["revision"].as_u64().unwrap();
    (run, revision)
}

#[tokio::test]
async fn the_walk_through_another_namespace_leaves_no_procedure_out() {
    let walked: BTreeSet<_> = calls(&Things::nobodys(), ("", 0)).iter().map(|(name, ..)| *name).collect();
    assert_eq!(walked, procedures().iter().map(|(name, _)| *name).collect(), "a procedure has no call here");
}

#[tokio::test]
async fn what_another_namespace_has_is_not_there_and_cannot_be_changed() {
    walk(Server::builder()).await;
}

#[cfg(feature = "sqlite")]
#[tokio::test]
async fn what_another_namespace_has_is_not_there_in_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    walk(Server::builder().sqlite(folder.path().join("aiki.db"))).await;
}

#[cfg(feature = "postgres")]
#[tokio::test]
async fn what_another_namespace_has_is_not_there_in_postgres() {
    let schema = test_postgres::Schema::fresh().await;
    walk(Server::builder().postgres(&schema.url).postgres_schema(&schema.name)).await;
}

/// Tries each call from the shop.
async fn walk(builder: ServerBuilder) {
    let house = House::over(builder).await;
    let street = Street::new(&house, 0).await;
    let before = street.seen_by_the_bank().await;
    for (at, (_, _, told)) in calls(&Things::nobodys(), ("", 0)).into_iter().enumerate() {
        if told == Own {
            // The shop has something under these names afterwards.
            let street = Street::new(&house, at + 1).await;
            let before = street.seen_by_the_bank().await;
            stays_apart(&street, &before, at).await;
        } else {
            stays_apart(&street, &before, at).await;
        }
    }
    let held = json!({ "worker": "w", "leaseMs": 60_000,
        "claims": [{ "run": street.things.held, "epoch": street.things.epoch }] });
    assert_eq!(ok(&house, &street.bank, "native/refreshRuns", held).await, json!(["held"]));
}

async fn stays_apart(street: &Street<'_>, before: &[Value], at: usize) {
    let nobodys = Things::nobodys();
    let (procedure, input, told) = street.calls(&street.things).swap_remove(at);
    let input = input.to_string();
    let answer = street.house.called(procedure, &street.shop, &input).await;
    let what = format!("{procedure} {input}: {} {}", answer.status, answer.body);
    for id in street.things.ids() {
        assert!(input.contains(id) || !answer.body.contains(id), "{what}");
    }
    for secret in ["bank", "secret", "vault"] {
        assert!(!answer.body.contains(secret), "{what}");
    }
    match told {
        Nothing => {
            assert_eq!(answer.status, StatusCode::NOT_FOUND, "{what}");
            assert!(answer.body.contains("\"NOT_FOUND\""), "{what}");
        }
        NothingOfEach => {
            assert_eq!(answer.status, StatusCode::OK, "{what}");
            assert!(answer.body.contains("\"NOT_FOUND\"") && !answer.body.contains("\"ok\""), "{what}");
        }
        AsIfNobodysWere | Own => assert_eq!(answer.status, StatusCode::OK, "{what}"),
    }
    if told != Own {
        let (_, input, _) = street.calls(&nobodys).swap_remove(at);
        let empty = street.house.called(procedure, &street.shop, &input.to_string()).await;
        assert_eq!(answer.status, empty.status, "{what}");
        assert_eq!(street.things.masked(&answer.body), nobodys.masked(&empty.body), "{what}");
    }
    assert_eq!(street.seen_by_the_bank().await, before, "{what}");
}

/// Otherwise nothing would have been tried: each call must be one that means something.
#[tokio::test]
async fn the_same_calls_say_something_else_to_who_has_the_things() {
    let house = House::over(Server::builder()).await;
    for at in 0..calls(&Things::nobodys(), ("", 0)).len() {
        let street = Street::new(&house, at).await;
        let (procedure, input, _) = street.calls(&street.things).swap_remove(at);
        let input = input.to_string();
        if input.contains(&street.mine.0) || procedure == "native/awaitNews" {
            continue;
        }
        let silent = SILENT.contains(&procedure);
        let before = if silent { street.seen_by_the_bank().await } else { Vec::new() };
        let owner = house.called(procedure, &street.bank, &input).await;
        let other = house.called(procedure, &street.shop, &input).await;
        let what = format!("{procedure} {input}: {} {}", owner.status, owner.body);
        assert_ne!(owner.status, StatusCode::NOT_FOUND, "{what}");
        assert!(!owner.body.contains("\"NOT_FOUND\"") && !owner.body.contains("not valid"), "{what}");
        if silent {
            assert_ne!(street.seen_by_the_bank().await, before, "{what}");
        } else {
            assert_ne!(owner.body, other.body, "{what}");
        }
    }
}
