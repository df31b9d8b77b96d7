//! Requests of a scenario: with live ids, at the right moment.

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::claims::without_system;
use super::ids::each_id;
use super::live::Call;
use super::player::{AHEAD, Player};
use super::recording::Exchange;
use super::timeline::target;

impl Player<'_> {
    /// The request as it is sent now.
    pub(super) fn call(&mut self, exchange: &Exchange) -> Result<Call, String> {
        let after = exchange.input().and_then(|input| input.get("afterStateTransitionId")).and_then(Value::as_str);
        if let (Some(after), Some(run)) = (after, target(exchange))
            && self.ids.live(after).is_none()
            && let Some(latest) = self.latest.get(run).cloned()
        {
            self.ids.lend(after, &latest);
        }
        let body = match &exchange.request_body {
            None => exchange.request_text.clone(),
            Some(recorded) => {
                self.ids.learn_hashes(recorded);
                let mut missing = None;
                each_id(recorded, &mut |id| missing = missing.or(self.ids.live(id).is_none().then_some(id)));
                if let Some(id) = missing {
                    return Err(format!("none: the request needs {id}, for which no answer gave a live id"));
                }
                let mut body = self.ids.value(&self.names.value(exchange.procedure(), recorded));
                let extra = self.extra_of(exchange);
                for at in
                    ["/json/expectedRevision", "/json/expectedWorkflowRunRevision", "/json/parent/expectedRevision"]
                {
                    if let Some(revision) = body.pointer_mut(at)
                        && let Some(recorded) = revision.as_i64().filter(|_| extra != 0)
                    {
                        *revision = json!(recorded + extra);
                    }
                }
                if exchange.procedure() == "workflowRun/claimReadyV1" && !self.timeline.claims_system_runs() {
                    without_system(&mut body);
                }
                Some(body.to_string())
            }
        };
        let own_key = self.live.key().filter(|_| !self.as_recorded).map(|key| format!("Bearer {key}"));
        Ok(Call {
            method: exchange.method.clone(),
            path: exchange.path.clone(),
            content_type: exchange.request_headers.get("content-type").cloned(),
            credentials: exchange.credentials(self.live.key()).or(own_key),
            body: body.filter(|text| !text.is_empty()),
            own: false,
        })
    }

    /// Waits until the run is where the recorded one was when the request arrived.
    pub(super) async fn reach(&mut self, place: usize, exchange: &Exchange) {
        let deadline = self.deadline(exchange);
        let refused = exchange.code() == Some("WORKFLOW_RUN_REVISION_CONFLICT");
        let expected = ["expectedRevision", "expectedWorkflowRunRevision"];
        let expected = expected.iter().find_map(|at| exchange.input()?.get(at)?.as_i64()).filter(|_| refused);
        for mark in self.timeline.needed(place) {
            let Some(live) = self.ids.live(&mark.run).map(str::to_owned) else { continue };
            let extra = self.extra.get(&mark.run).copied().unwrap_or_default();
            loop {
                let Some(record) = self.live.run(&live).await else { break };
                let revision = record["revision"].as_i64().unwrap_or_default() - extra;
                let stale = expected.is_some_and(|expected| expected == revision);
                if revision >= mark.revision && !stale {
                    // A client's own write hit the run before the daemon did; here it comes after.
                    let blind = exchange.input().is_some_and(|input| input["type"] == "pessimistic")
                        || exchange.procedure() == "workflowRun/cancelByIdsV1";
                    if blind
                        && exchange.status == 200
                        && revision == mark.revision + 1
                        && record["state"]["status"] == "queued"
                    {
                        *self.extra.entry(mark.run).or_default() += 1;
                        self.tolerate(AHEAD);
                    }
                    break;
                }
                if Instant::now() >= deadline {
                    break;
                }
                sleep(self.patience.between).await;
            }
        }
    }
}
