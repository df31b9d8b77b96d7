//! Replays one scenario.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::claims::{Claims, fits, owned, unborn, without_system};
use super::compare::Mismatch;
use super::differences::Differences;
use super::ids::{Ids, each_id};
use super::judge::{Court, Verdict, to_f64};
use super::live::{Answer, Call, Live};
use super::names::Names;
use super::recording::{Exchange, Recording};
use super::report::{Fault, Outcome, shown};
use super::sleeps::Sleeps;
use super::timeline::{Timeline, claimed, runs_of, target};

/// A scenario is given up after so many wrong answers.
const FAULTS: usize = 10;
/// What section 12.7 of the contract allows.
const AHEAD: &str = "a timer that was exact (12.7)";

/// How long to wait for what a daemon does.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// At least this long.
    pub least: Duration,
    /// And until this long after the recorded server had done it.
    pub beyond: Duration,
    /// Between two looks.
    pub between: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { least: Duration::from_secs(15), beyond: Duration::from_secs(30), between: Duration::from_millis(50) }
    }
}

/// One scenario under way.
#[derive(Debug)]
pub struct Player<'a> {
    live: &'a Live,
    timeline: Timeline,
    epoch: f64,
    names: Names,
    ids: Ids,
    differences: Differences,
    patience: Patience,
    started: Instant,
    as_recorded: bool,
    claims: Claims,
    sleeps: Sleeps,
    extra: HashMap<String, i64>,
    latest: HashMap<String, String>,
    parted: HashSet<String>,
    tolerated: BTreeMap<String, u32>,
    faults: Vec<Fault>,
}

impl<'a> Player<'a> {
    /// `prefix` keeps the scenario's workflows apart from all others on the server.
    #[must_use]
    pub fn new(
        live: &'a Live,
        recording: &Recording,
        differences: &Differences,
        prefix: &str,
        patience: Patience,
    ) -> Self {
        let timeline = Timeline::of(recording);
        let mut ids = Ids::default();
        for id in &timeline.unknown {
            // Cannot clash: nothing else is bound yet, and recorded ids are distinct.
            let _bound = ids.bind(id, id);
        }
        Self {
            live,
            timeline,
            epoch: to_f64(recording.recorded_at_epoch_ms),
            names: Names::new(prefix),
            ids,
            differences: differences.of(&recording.scenario),
            patience,
            started: Instant::now(),
            as_recorded: recording.speaks_of_keys(),
            claims: Claims::default(),
            sleeps: Sleeps::default(),
            extra: HashMap::new(),
            latest: HashMap::new(),
            parted: HashSet::new(),
            tolerated: BTreeMap::new(),
            faults: Vec::new(),
        }
    }

    /// Replays everything, or until too much is wrong.
    pub async fn play(mut self) -> Outcome {
        let (mut exchanges, mut foreign) = (0, 0);
        for place in 0..self.timeline.exchanges.len() {
            let exchange = self.timeline.exchanges[place].clone();
            self.shift(&exchange);
            if self.timeline.is_foreign(&exchange) {
                foreign += 1;
                continue;
            }
            exchanges += 1;
            let played = if exchange.procedure() == "workflowRun/claimReadyV1" && exchange.status == 200 {
                self.claim(place, &exchange).await
            } else {
                self.exchange(place, &exchange).await
            };
            if let Err(why) = played {
                self.fault(&exchange, "", "an answer", &why);
                break;
            }
            if self.faults.len() >= FAULTS {
                break;
            }
        }
        if self.faults.is_empty() {
            Outcome::Ok { exchanges, foreign, tolerated: self.tolerated }
        } else {
            Outcome::Differs(self.faults)
        }
    }

    fn fault(&mut self, exchange: &Exchange, pointer: &str, recorded: &str, live: &str) {
        let (seq, path) = (exchange.seq, exchange.path.clone());
        let (pointer, recorded, live) = (pointer.to_owned(), recorded.to_owned(), live.to_owned());
        self.faults.push(Fault { seq, path, pointer, recorded, live });
    }

    fn tolerate(&mut self, why: &str) {
        *self.tolerated.entry(why.to_owned()).or_default() += 1;
    }

    fn shift(&mut self, exchange: &Exchange) {
        let due: Vec<_> = self.differences.shifts().filter(|shift| shift.from_seq == exchange.seq).cloned().collect();
        for shift in due {
            *self.extra.entry(shift.run).or_default() += shift.by;
        }
    }

    fn deadline(&self, exchange: &Exchange) -> Instant {
        let recorded = Duration::from_millis(exchange.sent_at_ms);
        (Instant::now() + self.patience.least).max(self.started + recorded + self.patience.beyond)
    }

    fn extra_of(&self, exchange: &Exchange) -> i64 {
        let found = exchange.output().and_then(|output| output.pointer("/run/id")).and_then(Value::as_str);
        let run = found.or_else(|| target(exchange)).unwrap_or_default();
        self.extra.get(run).copied().unwrap_or_default()
    }

    /// The request as it is sent now.
    fn call(&mut self, exchange: &Exchange) -> Result<Call, String> {
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

    async fn exchange(&mut self, place: usize, exchange: &Exchange) -> Result<(), String> {
        let parted = runs_of(exchange).iter().any(|run| self.parted.contains(run));
        let call = match self.call(exchange) {
            Err(_) if parted => return Ok(()),
            call => call?,
        };
        if parted {
            let answer = self.live.send(&call).await?;
            self.form(exchange, &answer);
            return Ok(());
        }
        if !is_read(exchange.procedure()) {
            self.reach(place, exchange).await;
        }
        // The revision to send may have moved while waiting.
        let call = self.call(exchange)?;
        let deadline = self.deadline(exchange);
        let (verdict, answer) = loop {
            let answer = self.live.send(&call).await?;
            let mut verdict = self.judge(exchange, &answer);
            let tolerable = verdict.mismatches.iter().all(|found| self.differences.allowing(exchange, found).is_some());
            let settled = tolerable || !is_read(exchange.procedure()) || exchange.status != 200;
            if settled || self.overtaken(exchange, &answer) || Instant::now() >= deadline {
                if exchange.status == answer.status {
                    verdict.mismatches.extend(self.sleeps.too_short(exchange, answer.body.as_ref()));
                }
                break (verdict, answer);
            }
            sleep(self.patience.between).await;
        };
        self.conclude(exchange, &answer, verdict);
        Ok(())
    }

    fn judge(&self, exchange: &Exchange, answer: &Answer) -> Verdict {
        let court = Court { timeline: &self.timeline, names: &self.names, epoch: self.epoch };
        court.judge(exchange, answer, &self.ids, self.extra_of(exchange))
    }

    /// Whether waiting cannot help any more: the live run is past the recorded state.
    fn overtaken(&self, exchange: &Exchange, answer: &Answer) -> bool {
        let revision = |body: Option<&Value>| body?.pointer("/json/run/revision")?.as_i64();
        let (recorded, live) = (revision(exchange.response_body.as_ref()), revision(answer.body.as_ref()));
        let ended = |body: Option<&Value>| body.and_then(|body| body.pointer("/json/terminated")) == Some(&json!(true));
        let past =
            matches!((recorded, live), (Some(recorded), Some(live)) if live > recorded + self.extra_of(exchange));
        past || (ended(answer.body.as_ref()) && !ended(exchange.response_body.as_ref()))
    }

    fn conclude(&mut self, exchange: &Exchange, answer: &Answer, verdict: Verdict) {
        if self.differences.parts(exchange, &verdict.mismatches) {
            self.parted.extend(runs_of(exchange));
        }
        for found in &verdict.mismatches {
            self.weigh(exchange, found);
        }
        if verdict.ahead {
            self.tolerate(AHEAD);
        }
        self.ids = verdict.ids;
        self.sleeps.note(exchange);
        self.learn(exchange, answer);
    }

    fn weigh(&mut self, exchange: &Exchange, found: &Mismatch) {
        match self.differences.allowing(exchange, found) {
            Some(entry) => {
                let number = entry.section12.map(|number| format!(" (12.{number})")).unwrap_or_default();
                let why = format!("{}{number}", entry.why);
                self.tolerate(&why);
            }
            None => {
                let (recorded, live) = (shown(found.recorded.as_ref()), shown(found.live.as_ref()));
                self.fault(exchange, &found.pointer, &recorded, &live);
            }
        }
    }

    /// Remembers the newest transition of a run: polls go on from there.
    fn learn(&mut self, exchange: &Exchange, answer: &Answer) {
        let text = |body: Option<&Value>, at: &str| body?.pointer(at)?.as_str().map(str::to_owned);
        for at in ["/json/run/stateTransitionId", "/json/latestStateTransitionId"] {
            let live = text(answer.body.as_ref(), at);
            let run =
                text(exchange.response_body.as_ref(), "/json/run/id").or_else(|| target(exchange).map(str::to_owned));
            if let (Some(live), Some(run)) = (live, run) {
                if let Some(recorded) = text(exchange.response_body.as_ref(), at) {
                    self.ids.lend(&recorded, &live);
                }
                self.latest.insert(run, live);
            }
        }
    }

    fn form(&mut self, exchange: &Exchange, answer: &Answer) {
        let ok = answer.status < 500 && answer.body.as_ref().is_some_and(|body| body.is_object());
        if !ok {
            self.fault(exchange, "", "an answer of the contract", &format!("{} {}", answer.status, answer.text));
        }
    }

    /// Waits until the run is where the recorded one was when the request arrived.
    async fn reach(&mut self, place: usize, exchange: &Exchange) {
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

    /// Claims until everything has been handed out that the recorded server handed out.
    async fn claim(&mut self, place: usize, exchange: &Exchange) -> Result<(), String> {
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
                    if self.ids.bind(&run, live).is_ok() {
                        out.push(run);
                    }
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

/// Whether asking again does no harm.
fn is_read(procedure: &str) -> bool {
    let name = procedure.rsplit('/').next().unwrap_or_default();
    name.starts_with("get") || name.starts_with("list") || name == "hasTerminatedV1"
}
