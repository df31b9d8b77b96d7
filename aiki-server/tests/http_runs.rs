//! Runs as workers and clients of the contract drive them: the call sequences of section 5.9, step by step.

#![cfg(feature = "http")]
#![allow(clippy::unwrap_used, reason = "tests")]

mod caller;

use std::sync::Arc;
use std::time::Duration;

use aiki_runtime::VirtualClock;
use aiki_server::Server;
use axum::Router;
use caller::{Answer, call, ok};
use serde_json::{Value, json};

/// A worker and its clients, who know nothing but the API.
struct Peer {
    router: Router,
}

impl Peer {
    async fn start() -> Self {
        let server = Server::builder().clock(Arc::new(VirtualClock::default())).start().await.unwrap();
        Self { router: server.router() }
    }

    async fn create(&self, name: &str, more: Value) -> String {
        let mut input = json!({ "name": name, "versionId": "1.0.0", "inputHash": { "value": "hash" } });
        input.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.ok("workflowRun/createV1", input).await["id"].as_str().unwrap().to_owned()
    }

    async fn ok(&self, procedure: &str, input: Value) -> Value {
        ok(&self.router, procedure, input).await
    }

    async fn call(&self, procedure: &str, input: Value) -> Answer {
        call(&self.router, procedure, input).await
    }

    /// The status and code of a call that is refused.
    async fn refused(&self, procedure: &str, input: Value) -> (u16, String) {
        let answer = self.call(procedure, input).await;
        (answer.status, answer.code())
    }

    async fn run(&self, id: &str) -> Value {
        self.ok("workflowRun/getByIdV1", json!({ "id": id })).await["run"].clone()
    }

    async fn claim(&self, name: &str) -> Vec<String> {
        let workflows = json!([{ "source": "user", "name": name, "versionId": "1.0.0" }]);
        self.claim_as(json!({ "workflows": workflows, "limit": 10 })).await
    }

    async fn claim_as(&self, request: Value) -> Vec<String> {
        let runs = self.ok("workflowRun/claimReadyV1", request).await["runs"].clone();
        runs.as_array().unwrap().iter().map(|run| run["id"].as_str().unwrap().to_owned()).collect()
    }

    /// Claims the only run that is ready and says that it is running; answers its record.
    async fn begin(&self, name: &str) -> Value {
        let claimed = self.claim(name).await;
        assert_eq!(claimed.len(), 1, "{claimed:?}");
        let run = self.run(&claimed[0]).await;
        assert_eq!(run["state"]["status"], "queued");
        let after = self.to(&run, json!({ "status": "running" })).await;
        assert_eq!(after["state"], json!({ "status": "running" }));
        let mut run = run;
        run["revision"] = after["revision"].clone();
        run
    }

    /// An optimistic transition at the record's revision.
    async fn to(&self, run: &Value, state: Value) -> Value {
        self.ok("workflowRun/transitionStateV1", at(run, state)).await
    }

    /// A pessimistic transition.
    async fn force(&self, id: &str, state: Value) -> Answer {
        self.call("workflowRun/transitionStateV1", json!({ "type": "pessimistic", "id": id, "state": state })).await
    }

    async fn task(&self, run: &Value, request: Value) -> Value {
        self.ok("task/transitionStateV1", of(run, request)).await["taskInfo"].clone()
    }

    async fn open_task(&self, run: &Value) -> Value {
        let open = json!({ "type": "create", "taskName": "charge", "options": {}, "input": 5, "inputHash": "in" });
        self.task(run, open).await
    }
}

fn at(run: &Value, state: Value) -> Value {
    json!({ "type": "optimistic", "id": run["id"], "expectedRevision": run["revision"], "state": state })
}

fn of(run: &Value, mut request: Value) -> Value {
    request["workflowRunId"] = run["id"].clone();
    request["expectedWorkflowRunRevision"] = run["revision"].clone();
    request
}

fn error() -> Value {
    json!({ "name": "Error", "message": "broken" })
}

#[tokio::test(start_paused = true)]
async fn a_run_of_one_task_is_recorded_as_the_contract_has_it() {
    let peer = Peer::start().await;
    let id = peer.create("orders", json!({ "options": {} })).await;
    let run = peer.begin("orders").await;
    assert_eq!((&run["revision"], &run["input"]), (&json!(2), &Value::Null));
    let task = peer.open_task(&run).await;
    assert_eq!(task["state"], json!({ "status": "running", "attempts": 1 }));
    let done = json!({ "id": task["id"], "taskState": { "status": "completed", "attempts": 3, "output": null } });
    assert_eq!(peer.task(&run, done).await["state"], json!({ "status": "completed", "attempts": 3, "output": null }));
    let after = peer.to(&run, json!({ "status": "completed" })).await;
    assert_eq!(after, json!({ "revision": 3, "attempts": 1, "state": { "status": "completed" } }));

    let mut run = peer.run(&id).await;
    let fields = run.as_object_mut().unwrap();
    assert!(fields.remove("createdAt").unwrap().is_u64());
    let latest = fields.remove("stateTransitionId").unwrap();
    let info = json!({ "id": task["id"], "name": "charge", "inputHash": "in",
        "state": { "status": "completed", "attempts": 3, "output": null } });
    assert_eq!(
        run,
        json!({ "id": id, "name": "orders", "versionId": "1.0.0", "source": "user", "revision": 3, "input": null,
            "inputHash": "hash", "options": {}, "attempts": 1, "state": { "status": "completed" },
            "tasks": { "charge:in": [info] }, "sleeps": {}, "eventWaits": {}, "childWorkflowRuns": {} })
    );
    let list = peer.ok("workflowRun/listTransitionsV1", json!({ "id": id })).await;
    assert_eq!((&list["total"], &list["transitions"][0]["id"]), (&json!(6), &latest));
    let kinds: Vec<_> = list["transitions"].as_array().unwrap().iter().map(|one| one["type"].clone()).collect();
    assert_eq!(kinds, ["workflow_run", "task", "task", "workflow_run", "workflow_run", "workflow_run"]);
    let part = json!({ "id": id, "limit": 2, "offset": 1, "sort": { "order": "asc" } });
    let part = peer.ok("workflowRun/listTransitionsV1", part).await;
    assert_eq!(part["transitions"][0]["state"], json!({ "status": "queued", "reason": "new" }));
    assert_eq!((part["transitions"].as_array().unwrap().len(), &part["total"]), (2, &json!(6)));
    let task = peer.ok("task/getByIdV1", json!({ "id": task["id"] })).await;
    assert_eq!((&task["task"]["input"], &task["task"]["workflowRunId"]), (&json!(5), &json!(id)));
}

#[tokio::test(start_paused = true)]
async fn a_writer_who_is_late_is_told_so() {
    let peer = Peer::start().await;
    let id = peer.create("orders", json!({})).await;
    let run = peer.begin("orders").await;
    let task = peer.open_task(&run).await;
    assert_eq!(peer.force(&id, json!({ "status": "paused" })).await.status, 200);
    // The move is illegal by now: that comes before the revision.
    let sleep = json!({ "status": "sleeping", "sleepName": "nap", "durationMs": 5 });
    assert_eq!(peer.refused("workflowRun/transitionStateV1", at(&run, sleep)).await, (400, "BAD_REQUEST".into()));
    let conflict = (409, "WORKFLOW_RUN_REVISION_CONFLICT".to_owned());
    let done = json!({ "id": task["id"], "taskState": { "status": "completed", "attempts": 1 } });
    assert_eq!(peer.refused("task/transitionStateV1", of(&run, done)).await, conflict);
    let child = json!({ "name": "c", "versionId": "1", "inputHash": { "value": "h" },
        "parent": { "workflowRunId": id, "expectedRevision": run["revision"] } });
    assert_eq!(peer.refused("workflowRun/createV1", child).await, conflict);

    assert_eq!(peer.force(&id, json!({ "status": "paused" })).await.status, 400);
    let resume = json!({ "status": "scheduled", "reason": "resumption", "scheduledInMs": 0 });
    let resumed = peer.force(&id, resume.clone()).await.output();
    assert_eq!((&resumed["state"]["status"], &resumed["revision"]), (&json!("scheduled"), &json!(4)));
    assert_eq!(peer.force(&id, resume).await.status, 400);
    let again = peer.begin("orders").await;
    assert_eq!(again["state"]["reason"], "resumption");
    let stale = at(&run, json!({ "status": "completed" }));
    assert_eq!(peer.refused("workflowRun/transitionStateV1", stale).await, conflict);
    // The task that was running is taken up by its next attempt.
    let restart = json!({ "type": "retry", "id": task["id"], "options": {},
        "taskState": { "status": "running", "attempts": 2 } });
    assert_eq!(peer.task(&again, restart).await["state"]["attempts"], 2);
}

#[tokio::test(start_paused = true)]
async fn a_parked_task_brings_its_run_back() {
    let peer = Peer::start().await;
    let id = peer.create("orders", json!({})).await;
    let run = peer.begin("orders").await;
    let task = peer.open_task(&run).await;
    let park = json!({ "id": task["id"],
        "taskState": { "status": "awaiting_retry", "attempts": 1, "error": error(), "nextAttemptInMs": 1999.5 } });
    let state = peer.task(&run, park.clone()).await["state"].clone();
    assert_eq!(state["status"], "awaiting_retry");
    assert_eq!(peer.refused("task/transitionStateV1", of(&run, park)).await, (400, "BAD_REQUEST".into()));
    assert_eq!(peer.run(&id).await["state"], json!({ "status": "running" }));
    tokio::time::sleep(Duration::from_millis(1_990)).await;
    assert_eq!(peer.claim("orders").await, Vec::<String>::new());
    tokio::time::sleep(Duration::from_millis(20)).await;
    let run = peer.begin("orders").await;
    assert_eq!((&run["state"]["reason"], &run["revision"]), (&json!("task_retry"), &json!(4)));
    assert_eq!(run["tasks"]["charge:in"][0]["state"], state);
    let unknown = json!({ "id": format!("{id}"), "taskState": { "status": "completed", "attempts": 1 } });
    assert_eq!(peer.refused("task/transitionStateV1", of(&run, unknown)).await, (404, "NOT_FOUND".into()));
}

#[tokio::test(start_paused = true)]
async fn a_retry_of_the_run_gives_up_what_failed() {
    let peer = Peer::start().await;
    let id = peer.create("orders", json!({})).await;
    let run = peer.begin("orders").await;
    let task = peer.open_task(&run).await;
    let failed = json!({ "id": task["id"], "taskState": { "status": "failed", "attempts": 1, "error": error() } });
    peer.task(&run, failed).await;
    let retry = json!({ "status": "awaiting_retry", "cause": "task", "taskId": task["id"], "nextAttemptInMs": 0.5 });
    let after = peer.to(&run, retry).await;
    assert_eq!((&after["state"]["cause"], &after["state"]["taskId"]), (&json!("task"), &task["id"]));
    tokio::time::sleep(Duration::from_millis(10)).await;
    let run = peer.begin("orders").await;
    assert_eq!((&run["attempts"], &run["state"]["reason"], &run["tasks"]), (&json!(2), &json!("retry"), &json!({})));
    let found = peer.ok("task/getByIdV1", json!({ "id": task["id"] })).await;
    assert_eq!(found["task"]["state"], json!({ "status": "discarded", "attempts": 1 }));
    let counts = peer.ok("workflowRun/listV1", json!({ "filters": { "id": id } })).await["runs"][0].clone();
    assert_eq!(
        counts["taskCounts"],
        json!({ "completed": 0, "running": 0, "failed": 0, "awaiting_retry": 0, "discarded": 1 })
    );
}

#[tokio::test(start_paused = true)]
async fn a_sleep_lasts_as_long_as_asked_or_is_cut_short() {
    let peer = Peer::start().await;
    let id = peer.create("orders", json!({})).await;
    let run = peer.begin("orders").await;
    let nap = json!({ "status": "sleeping", "sleepName": "nap", "durationMs": 1000.25 });
    let after = peer.to(&run, nap.clone()).await;
    let record = peer.run(&id).await;
    assert_eq!(record["sleeps"]["nap"], json!([{ "status": "sleeping", "wakeupAt": after["state"]["wakeupAt"] }]));
    tokio::time::sleep(Duration::from_millis(1_010)).await;
    let run = peer.begin("orders").await;
    assert_eq!(run["state"]["reason"], "wakeup");
    let slept = &run["sleeps"]["nap"][0];
    assert!(slept["status"] == "completed" && slept["durationMs"].as_u64().unwrap() >= 1_001, "{slept}");
    peer.to(&run, nap).await;
    let wake = json!({ "status": "scheduled", "reason": "wakeup_early", "scheduledInMs": 0 });
    assert_eq!(peer.force(&id, wake).await.output()["state"]["reason"], "wakeup_early");
    let run = peer.begin("orders").await;
    let sleeps = run["sleeps"]["nap"].as_array().unwrap();
    assert!(sleeps.len() == 2 && sleeps[1]["status"] == "cancelled" && sleeps[1]["cancelledAt"].is_u64(), "{sleeps:?}");
}

#[tokio::test(start_paused = true)]
async fn events_and_timeouts_are_listed_as_they_came() {
    let peer = Peer::start().await;
    let id = peer.create("orders", json!({})).await;
    let send = |data: Value| json!({ "id": id, "eventName": "paid", "data": data });
    assert_eq!(peer.call("workflowRun/sendEventV1", send(json!({ "n": 1 }))).await.text, "{}");
    let run = peer.begin("orders").await;
    assert_eq!(run["eventWaits"]["paid"][0]["data"], json!({ "n": 1 }));
    let wait = json!({ "status": "awaiting_event", "eventName": "paid", "timeoutInMs": 50 });
    let after = peer.to(&run, wait.clone()).await;
    assert_eq!(after["state"]["status"], "awaiting_event");
    tokio::time::sleep(Duration::from_millis(60)).await;
    let run = peer.begin("orders").await;
    assert_eq!(run["state"]["reason"], "event_wait_timeout");
    peer.to(&run, wait).await;
    let referred = json!({ "id": id, "eventName": "paid", "options": { "reference": { "id": "once" } } });
    peer.ok("workflowRun/sendEventV1", referred.clone()).await;
    peer.ok("workflowRun/sendEventV1", referred).await;
    let run = peer.begin("orders").await;
    assert_eq!(run["state"]["reason"], "event");
    let list = run["eventWaits"]["paid"].as_array().unwrap();
    let statuses: Vec<_> = list.iter().map(|one| one["status"].as_str().unwrap()).collect();
    assert_eq!(statuses, ["received", "timeout", "received"]);
    assert_eq!((&list[2]["data"], &list[2]["reference"]), (&Value::Null, &json!({ "id": "once" })));
    assert!(list[1]["timedOutAt"].is_u64() && list[1].get("data").is_none());
    peer.to(&run, json!({ "status": "completed", "output": [1] })).await;
    // A run that has ended takes events as well.
    assert_eq!(peer.call("workflowRun/sendEventV1", send(Value::Null)).await.text, "{}");
}

#[tokio::test(start_paused = true)]
async fn an_event_between_the_last_look_and_the_wait_is_not_slept_through() {
    let peer = Peer::start().await;
    let id = peer.create("orders", json!({})).await;
    let run = peer.begin("orders").await;
    assert_eq!(peer.run(&id).await["eventWaits"], json!({}));
    peer.ok("workflowRun/sendEventV1", json!({ "id": id, "eventName": "paid" })).await;
    let after = peer.to(&run, json!({ "status": "awaiting_event", "eventName": "paid" })).await;
    assert_eq!(after["state"]["status"], "scheduled");
    assert_eq!(peer.begin("orders").await["eventWaits"]["paid"].as_array().unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_event_that_is_sent_again_is_not_kept_but_whoever_waits_looks_again() {
    let peer = Peer::start().await;
    let id = peer.create("orders", json!({})).await;
    let once = |name: &str| json!({ "id": id, "eventName": name, "options": { "reference": { "id": "once" } } });
    peer.ok("workflowRun/sendEventV1", once("paid")).await;
    let run = peer.begin("orders").await;
    let wait = json!({ "status": "awaiting_event", "eventName": "paid" });
    assert_eq!(peer.to(&run, wait.clone()).await["state"]["status"], "awaiting_event");
    peer.ok("workflowRun/sendEventV1", once("other")).await;
    peer.ok("workflowRun/sendEventV1", once("other")).await;
    assert_eq!(peer.run(&id).await["state"]["status"], "awaiting_event");
    peer.ok("workflowRun/sendEventV1", once("paid")).await;
    let woken = peer.run(&id).await;
    assert_eq!((&woken["state"], &woken["revision"]), (&json!({ "status": "queued", "reason": "event" }), &json!(5)));
    assert_eq!(woken["eventWaits"]["paid"].as_array().unwrap().len(), 1);
    let run = peer.begin("orders").await;
    assert_eq!(peer.to(&run, wait).await["state"]["status"], "awaiting_event", "nothing new has come");
}

#[tokio::test(start_paused = true)]
async fn retry_options_come_back_as_they_were_given() {
    let peer = Peer::start().await;
    let said = json!({ "type": "jittered", "maxAttempts": 3, "baseDelayMs": 100, "factor": 2 });
    let unsaid = json!({ "type": "jittered", "maxAttempts": 3, "baseDelayMs": 100 });
    for retry in [&said, &unsaid] {
        let id = peer.create("orders", json!({ "options": { "retry": retry } })).await;
        assert_eq!(&peer.run(&id).await["options"]["retry"], retry);
    }
    let schedule = |retry: &Value| {
        json!({
            "workflowName": "orders", "workflowVersionId": "1", "workflowRunInputHash": { "value": "h" },
            "spec": { "type": "interval", "everyMs": 60_000 }, "workflowRunOptions": { "retry": retry },
        })
    };
    let one = peer.ok("schedule/activateV1", schedule(&said)).await["schedule"].clone();
    let other = peer.ok("schedule/activateV1", schedule(&unsaid)).await["schedule"].clone();
    assert_eq!(one["workflowRunOptions"]["retry"], said);
    assert_ne!(one["id"], other["id"], "what is said is part of the definition");
}

#[tokio::test(start_paused = true)]
async fn a_run_that_has_moved_on_goes_before_a_task_that_is_not_there() {
    let peer = Peer::start().await;
    peer.create("orders", json!({})).await;
    let run = peer.begin("orders").await;
    let report = |run: &Value, revision: u64| {
        json!({
            "workflowRunId": run, "expectedWorkflowRunRevision": revision, "id": "nonsense",
            "taskState": { "status": "completed", "attempts": 1 },
        })
    };
    let conflict = (409, "WORKFLOW_RUN_REVISION_CONFLICT".to_owned());
    let unknown = (404, "NOT_FOUND".to_owned());
    assert_eq!(peer.refused("task/transitionStateV1", report(&run["id"], 7)).await, conflict);
    assert_eq!(peer.refused("task/transitionStateV1", report(&run["id"], 2)).await, unknown);
    assert_eq!(peer.refused("task/transitionStateV1", report(&json!("nonsense"), 2)).await, unknown);
}

#[tokio::test(start_paused = true)]
async fn multicasts_tell_who_got_it() {
    let peer = Peer::start().await;
    let a = peer.create("orders", json!({ "options": { "reference": { "id": "a" } } })).await;
    let sent = json!({ "ids": [a, "01M00000000000000000000000", "nonsense", a], "eventName": "e", "data": 1 });
    let answer = peer.ok("workflowRun/multicastEventV1", sent).await;
    assert_eq!(answer, json!({ "sentIds": [a, a], "failedIds": ["01M00000000000000000000000", "nonsense"] }));
    let reference = |id: &str| json!({ "name": "orders", "versionId": "1.0.0", "referenceId": id });
    let lost = json!({ "references": [reference("a"), reference("b")], "eventName": "e" });
    assert_eq!(peer.refused("workflowRun/multicastEventByReferenceV1", lost).await, (404, "NOT_FOUND".into()));
    let found = json!({ "references": [reference("a")], "eventName": "e" });
    let answer = peer.ok("workflowRun/multicastEventByReferenceV1", found).await;
    assert_eq!(answer, json!({ "sentIds": [a], "failedIds": [] }));
    assert_eq!(peer.run(&a).await["eventWaits"]["e"].as_array().unwrap().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_parent_hears_of_its_child_under_the_status_it_waited_for() {
    let peer = Peer::start().await;
    let parent = peer.create("orders", json!({})).await;
    let run = peer.begin("orders").await;
    let adopt = json!({ "parent": { "workflowRunId": parent, "expectedRevision": run["revision"] } });
    let child = peer.create("ship", adopt).await;
    let await_completed = |timeout: Option<u64>| {
        let mut state = json!({ "status": "awaiting_child_workflow", "childWorkflowRunId": child,
            "childWorkflowRunStatus": "completed" });
        timeout.into_iter().for_each(|ms| state["timeoutInMs"] = json!(ms));
        state
    };
    peer.to(&run, await_completed(Some(50))).await;
    tokio::time::sleep(Duration::from_millis(60)).await;
    let run = peer.begin("orders").await;
    assert_eq!(run["state"]["reason"], "child_workflow_wait_timeout");
    peer.to(&run, await_completed(None)).await;
    let shipping = peer.begin("ship").await;
    assert_eq!(shipping["parentWorkflowRunId"], json!(parent));
    peer.to(&shipping, json!({ "status": "failed", "cause": "self", "error": error() })).await;
    let run = peer.begin("orders").await;
    assert_eq!(run["state"]["reason"], "child_workflow");
    let children = run["childWorkflowRuns"]["ship:1.0.0:hash"].as_array().unwrap();
    assert_eq!((children.len(), &children[0]["id"]), (1, &json!(child)));
    let waits = &children[0]["waits"];
    assert_eq!((&waits["failed"], &waits["cancelled"]), (&json!([]), &json!([])));
    assert_eq!(waits["completed"][0]["status"], "timeout");
    assert_eq!(waits["completed"][1]["status"], "completed");
    assert_eq!(waits["completed"][1]["childWorkflowRunState"]["status"], "failed");
    // One that has ended already is not waited for.
    let wait = json!({ "status": "awaiting_child_workflow", "childWorkflowRunId": child,
        "childWorkflowRunStatus": "failed" });
    let after = peer.to(&run, wait).await;
    assert_eq!((&after["state"]["status"], &after["state"]["reason"]), (&json!("scheduled"), &json!("child_workflow")));
    let run = peer.begin("orders").await;
    assert_eq!(run["childWorkflowRuns"]["ship:1.0.0:hash"][0]["waits"]["failed"][0]["status"], "completed");
    let list = peer.ok("workflowRun/listChildRunsV1", json!({ "id": parent, "childRunStatus": ["failed"] })).await;
    assert_eq!(list, json!({ "runs": [{ "id": child }] }));
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_parent_leaves_its_children_to_the_system_workflow() {
    let peer = Peer::start().await;
    let parent = peer.create("orders", json!({ "options": { "pool": "eu" } })).await;
    let claim = json!({ "workflows": [{ "source": "user", "name": "orders", "versionId": "1.0.0" }],
        "pools": ["eu"], "limit": 1 });
    assert_eq!(peer.claim("orders").await, Vec::<String>::new());
    assert_eq!(peer.claim_as(claim).await, std::slice::from_ref(&parent));
    let adopt = json!({ "parent": { "workflowRunId": parent, "expectedRevision": 1 }, "options": { "pool": "eu" } });
    let child = peer.create("ship", adopt).await;
    let cancelled = peer.force(&parent, json!({ "status": "cancelled", "explanation": "enough" })).await.output();
    assert_eq!(cancelled["state"], json!({ "status": "cancelled", "explanation": "enough" }));
    assert_eq!(peer.force(&parent, json!({ "status": "cancelled" })).await.status, 400);
    let system = json!({ "workflows": [{ "source": "system", "name": "cancel-child-runs", "versionId": "1.0.0" }],
        "pools": ["eu"], "limit": 1 });
    let claimed = peer.claim_as(system).await;
    assert_eq!(peer.run(&claimed[0]).await["input"], json!(parent));
    let children = peer.ok("workflowRun/listChildRunsV1", json!({ "id": parent })).await;
    assert_eq!(children, json!({ "runs": [{ "id": child, "options": { "pool": "eu" } }] }));
    let ids = json!({ "ids": [child, parent, "nonsense", child] });
    assert_eq!(peer.ok("workflowRun/cancelByIdsV1", ids).await, json!({ "cancelledIds": [child] }));
    assert_eq!(peer.run(&child).await["state"], json!({ "status": "cancelled" }));
}

#[tokio::test(start_paused = true)]
async fn a_reference_id_belongs_to_one_run() {
    let peer = Peer::start().await;
    let reference = |hash: Value, policy: &str| json!({ "inputHash": hash, "options": { "reference": { "id": "order-1", "conflictPolicy": policy } } });
    let first = peer.create("orders", reference(json!({ "value": "old" }), "error")).await;
    assert_eq!(peer.create("orders", reference(json!({ "value": "old" }), "error")).await, first);
    let rotated = json!({ "value": "new", "deprecatedValues": ["old"] });
    assert_eq!(peer.create("orders", reference(rotated, "error")).await, first);
    assert_eq!(peer.create("orders", reference(json!({ "value": "x" }), "return_existing")).await, first);
    let mut other = reference(json!({ "value": "x" }), "error");
    other["name"] = json!("orders");
    other["versionId"] = json!("1.0.0");
    let conflict = (409, "WORKFLOW_RUN_REFERENCE_CONFLICT".to_owned());
    assert_eq!(peer.refused("workflowRun/createV1", other).await, conflict);
    let asked = json!({ "name": "orders", "versionId": "1.0.0", "referenceId": "order-1" });
    assert_eq!(peer.ok("workflowRun/getByReferenceIdV1", asked).await["run"]["id"], json!(first));
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_is_not_kept_goes_to_somebody_else() {
    let peer = Peer::start().await;
    let id = peer.create("orders", json!({})).await;
    let run = peer.begin("orders").await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(peer.call("workflowRun/claimRefreshV1", json!({ "id": id })).await.text, "{}");
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(peer.claim("orders").await, Vec::<String>::new());
    tokio::time::sleep(Duration::from_secs(31)).await;
    let again = peer.begin("orders").await;
    assert_eq!((&again["state"]["reason"], &again["attempts"]), (&json!("recovery"), &json!(1)));
    let late = at(&run, json!({ "status": "completed" }));
    let conflict = (409, "WORKFLOW_RUN_REVISION_CONFLICT".to_owned());
    assert_eq!(peer.refused("workflowRun/transitionStateV1", late).await, conflict);
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_run_that_has_ended_is_told() {
    let peer = Peer::start().await;
    let id = peer.create("orders", json!({})).await;
    let first = peer.run(&id).await["stateTransitionId"].clone();
    let asked = |after: &Value| json!({ "id": id, "afterStateTransitionId": after });
    let now = peer.ok("workflowRun/hasTerminatedV1", asked(&first)).await;
    assert_eq!(now, json!({ "terminated": false, "latestStateTransitionId": first }));
    let run = peer.begin("orders").await;
    peer.to(&run, json!({ "status": "completed" })).await;
    let now = peer.ok("workflowRun/hasTerminatedV1", asked(&first)).await;
    assert_eq!(now["terminated"], true);
    let last = now["latestStateTransitionId"].clone();
    assert_eq!(peer.ok("workflowRun/hasTerminatedV1", asked(&last)).await["terminated"], true);
    let later = json!("7ZZZZZZZZZZZZZZZZZZZZZZZZZ");
    assert_eq!(peer.ok("workflowRun/hasTerminatedV1", asked(&later)).await["terminated"], false);
    assert_eq!(peer.ok("workflowRun/getStateV1", json!({ "id": id })).await["state"], json!({ "status": "completed" }));
}

#[tokio::test(start_paused = true)]
async fn an_operator_sets_results_of_runs_that_go_on() {
    let peer = Peer::start().await;
    let id = peer.create("orders", json!({})).await;
    let new = json!({ "type": "new", "workflowRunId": id, "taskName": "charge", "inputHash": "in",
        "state": { "status": "completed", "output": { "by": "hand" } } });
    assert_eq!(peer.call("task/setStateV1", new.clone()).await.text, "{}");
    let run = peer.begin("orders").await;
    let state = &run["tasks"]["charge:in"][0]["state"];
    assert_eq!(state, &json!({ "status": "completed", "attempts": 1, "output": { "by": "hand" } }));
    let missing = json!({ "type": "existing", "workflowRunId": id, "id": "01M00000000000000000000000",
        "state": { "status": "failed", "error": error() } });
    assert_eq!(peer.refused("task/setStateV1", missing).await, (404, "NOT_FOUND".into()));
    peer.force(&id, json!({ "status": "cancelled" })).await.output();
    assert_eq!(peer.refused("task/setStateV1", new).await, (409, "WORKFLOW_RUN_TERMINATED".into()));
}

#[tokio::test(start_paused = true)]
async fn lists_and_statistics_count_what_is_there() {
    let peer = Peer::start().await;
    let mut ids = Vec::new();
    for n in 0..5 {
        ids.push(peer.create("orders", json!({ "options": { "reference": { "id": format!("r{n}") } } })).await);
    }
    peer.create("ship", json!({})).await;
    peer.force(&ids[0], json!({ "status": "cancelled" })).await.output();
    let page = peer.ok("workflowRun/listV1", json!({ "limit": 2, "offset": 1, "sort": { "order": "asc" } })).await;
    assert_eq!((&page["total"], &page["runs"][0]["id"]), (&json!(6), &json!(ids[1])));
    assert!(page["runs"][0].get("taskCounts").is_none() && page["runs"].as_array().unwrap().len() == 2);
    let of = |filters: Value| json!({ "filters": filters });
    for (filters, total) in [
        (json!({ "status": ["cancelled"] }), 1),
        (json!({ "status": [] }), 6),
        (json!({ "workflow": { "name": "orders", "source": "user" } }), 5),
        (json!({ "workflow": { "name": "orders", "source": "user", "referenceId": "r3" } }), 1),
        (json!({ "workflow": { "name": "orders", "source": "system" } }), 0),
        (json!({ "id": "nonsense" }), 0),
        (json!({ "scheduleId": "nonsense" }), 0),
    ] {
        assert_eq!(peer.ok("workflowRun/listV1", of(filters.clone())).await["total"], total, "{filters}");
    }
    let sorted = json!({ "source": "user", "sort": { "field": "runCount", "order": "asc" } });
    let workflows = peer.ok("workflow/listV1", sorted).await;
    let counts: Vec<_> = workflows["workflows"].as_array().unwrap().iter().map(|one| one["runCount"].clone()).collect();
    assert_eq!((counts, &workflows["total"]), (vec![json!(1), json!(5)], &json!(2)));
    let prefixed = peer.ok("workflow/listV1", json!({ "source": "user", "namePrefix": "o%" })).await;
    assert_eq!(prefixed["total"], 0);
    let versions = peer.ok("workflow/listVersionsV1", json!({ "source": "user", "name": "orders" })).await;
    assert_eq!((&versions["versions"][0]["versionId"], &versions["total"]), (&json!("1.0.0"), &json!(1)));
    let stats = peer.call("workflow/getStatsV1", json!({ "source": "user", "name": "orders" })).await.output();
    let by_status = stats["stats"]["runsByStatus"].as_object().unwrap();
    assert_eq!((by_status.len(), &by_status["cancelled"], &by_status["queued"]), (12, &json!(1), &json!(4)));
}

#[tokio::test(start_paused = true)]
async fn schedules_live_and_start_runs() {
    let peer = Peer::start().await;
    let activate = |more: Value| {
        let mut input = json!({ "workflowName": "report", "workflowVersionId": "1.0.0",
            "workflowRunInputHash": { "value": "h" }, "spec": { "type": "interval", "everyMs": 1000 },
            "options": {}, "workflowRunOptions": {} });
        input.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        input
    };
    let made = peer.ok("schedule/activateV1", activate(json!({}))).await["schedule"].clone();
    assert_eq!((&made["status"], &made["workflowRunInput"]), (&json!("active"), &Value::Null));
    assert_eq!(made["spec"], json!({ "type": "interval", "everyMs": 1000 }));
    let named = activate(json!({ "options": { "reference": { "id": "daily" } } }));
    assert_eq!(peer.ok("schedule/activateV1", named).await["schedule"]["id"], made["id"]);
    let other = json!({ "options": { "reference": { "id": "daily" } }, "spec": { "type": "interval", "everyMs": 5 } });
    assert_eq!(peer.refused("schedule/activateV1", activate(other)).await, (409, "SCHEDULE_CONFLICT".into()));
    tokio::time::sleep(Duration::from_millis(1_010)).await;
    let found = peer.ok("schedule/getByReferenceIdV1", json!({ "referenceId": "daily" })).await;
    assert_eq!((&found["runCount"], &found["schedule"]["id"]), (&json!(1), &made["id"]));
    let run = peer.begin("report").await;
    assert_eq!(run["scheduleId"], made["id"]);
    for (procedure, status) in [("pauseV1", "paused"), ("resumeV1", "active"), ("deactivateV1", "inactive")] {
        let id = json!({ "id": made["id"] });
        assert_eq!(peer.call(&format!("schedule/{procedure}"), id.clone()).await.text, "{}");
        assert_eq!(peer.ok("schedule/getByIdV1", id).await["schedule"]["status"], status);
    }
    for (filters, total) in [
        (json!({ "status": ["inactive"] }), 1),
        (json!({ "status": ["active"] }), 0),
        (json!({ "workflows": [{ "name": "report", "source": "user" }] }), 1),
        (json!({ "workflows": [{ "name": "report", "source": "system" }] }), 0),
        (json!({ "id": "nonsense" }), 0),
    ] {
        let list = peer.ok("schedule/listV1", json!({ "filters": filters, "limit": 5 })).await;
        assert_eq!(list["total"], total, "{filters}");
    }
    for spec in [
        json!({ "type": "cron", "expression": "not a cron" }),
        json!({ "type": "cron", "expression": "0 9 * * *", "timezone": "Mars/Base" }),
    ] {
        let answer = peer.refused("schedule/activateV1", activate(json!({ "spec": spec }))).await;
        assert_eq!(answer, (400, "BAD_REQUEST".into()));
    }
}
