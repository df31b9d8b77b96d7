//! Replays one scenario.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::claims::{Claims, fits};
use super::compare::Mismatch;
use super::differences::Differences;
use super::ids::{Ids, Kind};
use super::judge::{Court, Verdict, to_f64};
use super::lists;
use super::live::{Answer, Live};
use super::names::Names;
use super::pace::Pace;
use super::recording::{Exchange, Recording};
use super::report::{Fault, Outcome, shown};
use super::sleeps::Sleeps;
use super::timeline::{Timeline, runs_of, target};

/// A scenario is given up after so many wrong answers.
pub(super) const FAULTS: usize = 10;
/// So many of the system's runs in one list are looked at.
const SYSTEM_RUNS: usize = 100;
/// What section 12.7 of the contract allows.
pub(super) const AHEAD: &str = "a timer that was exact (12.7)";

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
    pub(super) live: &'a Live,
    pub(super) timeline: Timeline,
    pub(super) epoch: f64,
    pub(super) names: Names,
    pub(super) ids: Ids,
    pub(super) differences: Differences,
    pub(super) patience: Patience,
    pub(super) started: Instant,
    pub(super) as_recorded: bool,
    pub(super) claims: Claims,
    pub(super) sleeps: Sleeps,
    pub(super) pace: Pace,
    pub(super) extra: HashMap<String, i64>,
    pub(super) latest: HashMap<String, String>,
    pub(super) parted: HashSet<String>,
    pub(super) tolerated: BTreeMap<String, u32>,
    pub(super) faults: Vec<Fault>,
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
            let _bound = ids.bind(Kind::Thing, id, id);
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
            pace: Pace::default(),
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
            self.pace.wait(&exchange).await;
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

    pub(super) fn fault(&mut self, exchange: &Exchange, pointer: &str, recorded: &str, live: &str) {
        let (seq, path) = (exchange.seq, exchange.path.clone());
        let (pointer, recorded, live) = (pointer.to_owned(), recorded.to_owned(), live.to_owned());
        self.faults.push(Fault { seq, path, pointer, recorded, live });
    }

    pub(super) fn tolerate(&mut self, why: &str) {
        *self.tolerated.entry(why.to_owned()).or_default() += 1;
    }

    fn shift(&mut self, exchange: &Exchange) {
        let due: Vec<_> = self.differences.shifts().filter(|shift| shift.from_seq == exchange.seq).cloned().collect();
        for shift in due {
            *self.extra.entry(shift.run).or_default() += shift.by;
        }
    }

    pub(super) fn deadline(&self, exchange: &Exchange) -> Instant {
        let recorded = Duration::from_millis(exchange.sent_at_ms);
        (Instant::now() + self.patience.least).max(self.started + recorded + self.patience.beyond)
    }

    pub(super) fn extra_of(&self, exchange: &Exchange) -> i64 {
        let found = exchange.output().and_then(|output| output.pointer("/run/id")).and_then(Value::as_str);
        let run = found.or_else(|| target(exchange)).unwrap_or_default();
        self.extra.get(run).copied().unwrap_or_default()
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
            self.recognise(exchange, &answer).await;
            let mut verdict = self.judge(exchange, &answer);
            let tolerable = verdict.mismatches.iter().all(|found| self.differences.allowing(exchange, found).is_some());
            // A page that is no answer of the contract does not get better.
            let settled =
                tolerable || !is_read(exchange.procedure()) || exchange.status != 200 || answer.body.is_none();
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

    /// Finds out which of the system's runs that a list shows are those of this scenario.
    async fn recognise(&mut self, exchange: &Exchange, answer: &Answer) {
        if exchange.procedure() != "workflowRun/listV1" || !lists::asks_for_system(exchange) {
            return;
        }
        let runs = |body: Option<&Value>| -> Vec<String> {
            let runs = body.and_then(|body| body.pointer("/json/runs")?.as_array());
            runs.into_iter().flatten().filter_map(|run| Some(run.get("id")?.as_str()?.to_owned())).collect()
        };
        for live in runs(answer.body.as_ref()).iter().take(SYSTEM_RUNS) {
            if self.ids.recorded(live).is_some() {
                continue;
            }
            let Some(record) = self.live.run(live).await else { continue };
            let candidates = runs(exchange.response_body.as_ref());
            let same = |run: &&String| {
                self.ids.bound(run).is_none()
                    && self.timeline.record(run).is_some()
                    && fits(&self.timeline, &self.names, &self.ids, run, &record)
            };
            if let Some(run) = candidates.iter().find(same) {
                // Neither stands for another one: both were looked up.
                let _bound = self.ids.bind(Kind::Thing, run, live);
            }
        }
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
        self.pace.note(exchange);
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
}

/// Whether asking again does no harm.
fn is_read(procedure: &str) -> bool {
    let name = procedure.rsplit('/').next().unwrap_or_default();
    name.starts_with("get") || name.starts_with("list") || name == "hasTerminatedV1"
}
