//! A worker whose every move is made by the test.

use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use aiki_core::replay::{MachineConfig, Pass, PassStep};
use aiki_core::{Clock, RegisteredWorkflow, Report, Transition};

use super::{ManualClock, Server};

pub(crate) struct Hand {
    pub(crate) server: Server,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) workflow: RegisteredWorkflow,
    pub(crate) pass: Pass,
    /// What was written, each report by itself.
    pub(crate) reports: Vec<Vec<Transition>>,
    /// How often a pass was polled.
    pub(crate) polls: usize,
}

impl Hand {
    /// Claims a new run of this workflow.
    pub(crate) fn new(workflow: &RegisteredWorkflow) -> Self {
        let clock = Arc::new(ManualClock::new());
        Self::on(Server::new(workflow.key(), 5, clock), workflow)
    }

    pub(crate) fn on(mut server: Server, workflow: &RegisteredWorkflow) -> Self {
        let clock = server.clock.clone();
        let claim = server.claim().unwrap();
        let pass = Pass::new(claim, workflow, clock.clone(), MachineConfig::default());
        Self { server, clock, workflow: workflow.clone(), pass, reports: Vec::new(), polls: 0 }
    }

    pub(crate) fn poll(&mut self) -> PassStep {
        self.polls += 1;
        self.pass.poll(&mut Context::from_waker(Waker::noop()))
    }

    /// Polls until something else than another poll is asked for.
    pub(crate) fn step(&mut self) -> PassStep {
        for _ in 0..100_000 {
            match self.poll() {
                PassStep::Again => {}
                step => return step,
            }
        }
        panic!("the pass goes round in circles");
    }

    pub(crate) fn report(&mut self) -> Report {
        match self.step() {
            PassStep::Report(report) => report,
            step => panic!("{step:?}\n{}", self.server.page),
        }
    }

    /// The report arrives and is answered.
    pub(crate) fn answer(&mut self, report: &Report) {
        let receipt = self.server.report(report).unwrap();
        self.reports.push(report.transitions.clone());
        self.pass.accepted(&receipt);
    }

    /// Answers reports until the pass waits or closes.
    pub(crate) fn go(&mut self) -> PassStep {
        loop {
            match self.step() {
                PassStep::Report(report) => self.answer(&report),
                step => return step,
            }
        }
    }

    /// The same for passes that follow each other, until the run has ended or nobody works on it.
    pub(crate) fn go_on(&mut self) {
        loop {
            let step = self.go();
            let PassStep::Close(_) = step else { return };
            if !self.server.is_ready() {
                return;
            }
            self.claim();
        }
    }

    /// The worker takes the run that is ready; whatever pass it had is gone.
    pub(crate) fn claim(&mut self) {
        let claim = self.server.claim().unwrap_or_else(|| panic!("not ready:\n{}", self.server.page));
        self.pass = Pass::new(claim, &self.workflow, self.clock.clone(), MachineConfig::default());
    }

    /// The worker is lost and another one takes over.
    pub(crate) fn crash(&mut self) {
        self.server.release();
        self.claim();
    }

    /// An event arrives, unseen by the pass.
    pub(crate) fn send(&mut self, event: usize) {
        let event = self.server.next_event(event);
        self.server.arrive(&event);
    }

    /// The pass is told of everything that has arrived.
    pub(crate) fn deliver(&mut self) {
        let known = self.pass.known_signals();
        self.pass.deliver(known, self.server.signals(known));
    }

    pub(crate) fn advance(&self, by: Duration) {
        self.clock.advance_to(self.clock.now().after(by));
    }

    pub(crate) fn output(&self) -> &str {
        match &self.server.head.state {
            aiki_core::RunState::Completed { output } => output.as_ref().map_or("", |output| output.as_str()),
            state => panic!("{state:?}\n{}", self.server.page),
        }
    }

    pub(crate) fn transitions(&self) -> Vec<Transition> {
        self.reports.concat()
    }
}
