//! Shorthand for what clients and workers do.

use std::time::Duration;

use aiki_core::hash::input_hash;
use aiki_core::name::WorkflowKey;
use aiki_core::report::ChildStart;
use aiki_core::run::plan::{CreateRun, EventMessage};
use aiki_core::run::{RunOptions, RunStatus, WaitOn};
use aiki_core::server_client::{ClaimOutcome, ClaimReady, ClaimRef, ClaimRuns, ClaimedRun, SendEvent};
use aiki_core::{Client, Name, Payload, Priority, Report, ReportReceipt, RunId, ServerError, Transition};

/// The lease of the suite's claims.
pub const LEASE: Duration = Duration::from_secs(30);

/// The workflow of the suite's runs.
pub fn workflow() -> WorkflowKey {
    WorkflowKey::user("orders", "1.0.0")
}

/// A request for a run with this input.
///
/// # Panics
/// When the input is not JSON.
pub fn request(input: &str) -> CreateRun {
    let payload = Payload::from_json(input).unwrap_or_else(|error| panic!("{error}"));
    let hash = input_hash(Some(input)).unwrap_or_else(|error| panic!("{error}"));
    CreateRun::new(workflow(), Some(payload), hash)
}

/// Creates a run.
///
/// # Panics
/// When the server refuses.
pub async fn create(client: &Client) -> RunId {
    let created = client.server().create_run(request("{\"order\":1}")).await;
    created.unwrap_or_else(|error| panic!("the run was not created: {error}")).id
}

/// Creates a run as asked.
///
/// # Panics
/// When the server refuses.
pub async fn create_as(client: &Client, request: CreateRun) -> RunId {
    let created = client.server().create_run(request).await;
    created.unwrap_or_else(|error| panic!("the run was not created: {error}")).id
}

/// The status of a run.
///
/// # Panics
/// When there is no such run.
pub async fn status(client: &Client, run: RunId) -> RunStatus {
    let record = client.server().get_run(run).await;
    record.unwrap_or_else(|error| panic!("the run cannot be read: {error}")).state.status()
}

/// An event for a run, its name as data.
pub fn event(run: RunId, name: &str, reference_id: Option<&str>) -> SendEvent {
    let data = Payload::encode(&name).unwrap_or_else(|error| panic!("{error}"));
    SendEvent { run, event: EventMessage { name: name.into(), data, reference_id: reference_id.map(Into::into) } }
}

/// Sends an event to a run.
///
/// # Panics
/// When the server refuses.
pub async fn send(client: &Client, run: RunId, name: &str) {
    let sent = client.server().send_event(event(run, name, None)).await;
    sent.unwrap_or_else(|error| panic!("the event was refused: {error}"));
}

/// A child of the suite's workflow with this input.
///
/// # Panics
/// When the input is not JSON.
pub fn child_start(input: &str) -> ChildStart {
    let CreateRun { workflow, input, input_hash, .. } = request(input);
    ChildStart {
        workflow,
        input,
        input_hash,
        reference: None,
        options: RunOptions::default(),
        priority: Priority::default(),
        time_limit: None,
    }
}

/// Tries to claim a run.
///
/// # Panics
/// When the server refuses the request.
pub async fn try_claim(client: &Client, worker: &str, run: RunId) -> ClaimOutcome {
    let request = ClaimRuns { worker: Name::new(worker), runs: vec![run], lease: LEASE };
    let answers = client.server().claim_runs(request).await;
    let mut answers = answers.unwrap_or_else(|error| panic!("the claim was refused: {error}"));
    assert_eq!(answers.len(), 1, "one answer for one run");
    answers.remove(0)
}

/// The claim that an answer grants.
///
/// # Panics
/// When it grants none.
pub fn as_claimed(outcome: ClaimOutcome) -> ClaimedRun {
    match outcome {
        ClaimOutcome::Granted(claimed) => *claimed,
        other => panic!("the claim was not granted: {other:?}"),
    }
}

/// Claims a run and begins a pass over it.
///
/// # Panics
/// When the claim is not granted.
pub async fn claim(client: &Client, worker: &str, run: RunId) -> Pass {
    Pass::of(client, as_claimed(try_claim(client, worker, run).await))
}

/// A request for whatever is ready of the suite's workflow.
pub fn ready_request(worker: &str, limit: usize) -> ClaimReady {
    ClaimReady { worker: Name::new(worker), workflows: vec![workflow()], pools: Vec::new(), limit, lease: LEASE }
}

/// A worker's pass over a claimed run: counts its reports.
#[derive(Debug)]
pub struct Pass {
    client: Client,
    /// What was claimed.
    pub claimed: ClaimedRun,
    seq: u64,
    /// How many signals of the run the pass knows of.
    pub signals: u32,
}

impl Pass {
    /// A pass over a claim.
    pub fn of(client: &Client, claimed: ClaimedRun) -> Self {
        let signals = claimed.record.ordinals.signals;
        Self { client: client.clone(), claimed, seq: 0, signals }
    }

    /// The run.
    pub fn run(&self) -> RunId {
        self.claimed.record.id
    }

    /// The claim's name.
    pub fn claim(&self) -> ClaimRef {
        ClaimRef { run: self.run(), epoch: self.claimed.epoch }
    }

    /// The next report, not yet sent.
    pub fn next(&mut self, transitions: Vec<Transition>) -> Report {
        self.seq += 1;
        Report { run: self.run(), epoch: self.claimed.epoch, seq: self.seq, signals: self.signals, transitions }
    }

    /// Reports.
    ///
    /// # Errors
    /// The server's answer.
    pub async fn try_report(&mut self, transitions: Vec<Transition>) -> Result<ReportReceipt, ServerError> {
        let report = self.next(transitions);
        self.client.server().report(report).await
    }

    /// Reports.
    ///
    /// # Panics
    /// When the report is refused.
    pub async fn report(&mut self, transitions: Vec<Transition>) -> ReportReceipt {
        self.try_report(transitions).await.unwrap_or_else(|error| panic!("the report was refused: {error}"))
    }

    /// Opens the task with this ordinal.
    pub fn open(&self, ordinal: u32) -> Transition {
        let input_hash = input_hash(Some("1")).unwrap_or_else(|error| panic!("{error}"));
        let input = Payload::from_json("1").ok();
        let id = self.run().task(ordinal);
        Transition::TaskOpened { id, name: format!("task-{ordinal}"), input_hash, input, retry: None }
    }

    /// Completes the task with this ordinal.
    pub fn complete(&self, ordinal: u32, output: &str) -> Transition {
        let output = Payload::from_json(output).ok();
        Transition::TaskCompleted { id: self.run().task(ordinal), attempts: 1, output }
    }

    /// Opens the sleep with this ordinal.
    pub fn sleep(ordinal: u32, duration: Duration) -> Transition {
        Transition::SleepOpened { ordinal, name: format!("nap-{ordinal}"), duration }
    }

    /// Begins the wait with this ordinal for an event.
    pub fn wait_for(ordinal: u32, event: &str, timeout: Option<Duration>) -> Transition {
        Transition::WaitOpened { ordinal, on: WaitOn::Event(event.into()), run: None, timeout }
    }

    /// Begins the wait with this ordinal for the end of a child.
    pub fn wait_for_child(ordinal: u32, child: u32, run: Option<RunId>, timeout: Option<Duration>) -> Transition {
        Transition::WaitOpened { ordinal, on: WaitOn::Child(child), run, timeout }
    }

    /// Starts the child with this ordinal.
    pub fn start_child(ordinal: u32, start: ChildStart) -> Transition {
        Transition::ChildOpened { ordinal, start: Box::new(start) }
    }

    /// Completes the run.
    ///
    /// # Panics
    /// When the report is refused.
    pub async fn finish(mut self) {
        self.report(vec![Transition::Completed { output: Payload::from_json("\"done\"").ok() }]).await;
    }
}
