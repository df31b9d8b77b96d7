//! Claims of a scenario: until everything has been handed out that was handed out when recorded.

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::claims::{fits, owned, unborn};
use super::ids::Kind;
use super::live::Answer;
use super::player::{AHEAD, FAULTS, Player};
use super::recording::Exchange;
use super::timeline::claimed;

impl Player<'_> {
    /// Claims until everything has been handed out that the recorded server handed out.
    pub(super) async fn claim(&mut self, place: usize, exchange: &Exchange) -> Result<(), String> {
        let foreign = |run: &&str| !self.timeline.foreign.contains(*run);
        let mut wanted: Vec<String> = claimed(exchange).filter(foreign).map(str::to_owned).collect();
        wanted.retain(|run| !self.claims.take(run) && !self.parted.contains(run));
        let asked = !wanted.is_empty();
        let deadline = self.deadline(exchange);
        for run in &wanted {
            while let Some(live) = self.ids.bound(run).map(str::to_owned) {
                let state = self.live.ask("workflowRun/getStateV1", json!({"id": live})).await;
                let queued = state.is_some_and(|state| state["state"]["status"] == "queued");
                if queued || Instant::now() >= deadline {
                    break;
                }
                sleep(self.patience.between).await;
            }
        }
        let call = self.call(exchange)?;
        loop {
            if asked && wanted.is_empty() {
                return Ok(());
            }
            let answer = self.live.send(&call).await?;
            for run in self.handed_out(place, exchange, &answer).await {
                match wanted.iter().position(|wanted| *wanted == run) {
                    Some(at) => drop(wanted.remove(at)),
                    None if self.parted.contains(&run) => {}
                    None if self.claims.came_early(&self.timeline, place, &run) => self.tolerate(AHEAD),
                    None => {
                        self.fault(exchange, "/json/runs", "not handed out", &format!("handed out {run} (recorded id)"))
                    }
                }
            }
            if wanted.is_empty() {
                return Ok(());
            }
            if Instant::now() >= deadline || self.faults.len() >= FAULTS {
                let missing = wanted.join(", ");
                self.fault(exchange, "/json/runs", &format!("{missing} handed out"), "not handed out in time");
                return Ok(());
            }
            sleep(self.patience.between).await;
        }
    }

    /// The recorded ids of what one answer handed out.
    async fn handed_out(&mut self, place: usize, exchange: &Exchange, answer: &Answer) -> Vec<String> {
        let runs = answer.body.as_ref().and_then(|body| body.pointer("/json/runs")).and_then(Value::as_array);
        let well_formed = |run: &Value| run.as_object().is_some_and(|run| run.len() == 1) && run["id"].is_string();
        let Some(runs) = runs.filter(|runs| answer.status == 200 && runs.iter().all(well_formed)) else {
            self.fault(exchange, "", "200 with {runs: [{id}]}", &format!("{} {}", answer.status, answer.text));
            return Vec::new();
        };
        let limit = exchange.input().and_then(|input| input.get("limit")?.as_u64());
        if limit.and_then(|limit| usize::try_from(limit).ok()).is_some_and(|limit| runs.len() > limit) {
            self.fault(exchange, "/json/runs", "at most as many as the limit", &runs.len().to_string());
        }
        let mut out = Vec::new();
        for live in runs.iter().filter_map(|run| run["id"].as_str()) {
            if let Some(run) = self.ids.recorded(live) {
                out.push(run.to_owned());
                continue;
            }
            let Some(record) = self.live.run(live).await else {
                self.fault(exchange, "/json/runs", "a run that can be read", live);
                continue;
            };
            let candidates = unborn(&self.timeline, place, &self.ids);
            let run = candidates.into_iter().find(|run| fits(&self.timeline, &self.names, &self.ids, run, &record));
            match run.map(str::to_owned) {
                Some(run) => {
                    if self.ids.bind(Kind::Thing, &run, live).is_ok() {
                        out.push(run);
                    }
                }
                // The recorded server took the latest of several occurrences, or had not come to this one.
                None if self.pace.goes_by_the_clock()
                    && record["scheduleId"].as_str().is_some_and(|schedule| self.ids.recorded(schedule).is_some()) =>
                {
                    self.tolerate(AHEAD);
                }
                None if owned(&self.names, &self.ids, &record) => {
                    self.fault(
                        exchange,
                        "/json/runs",
                        "not handed out",
                        &format!("a run that was not recorded: {record}"),
                    );
                }
                None => self.tolerate("a run of another session was handed out, too"),
            }
        }
        out
    }
}
