//! One run, two workers and what is on its way between them.

use std::hash::{Hash, Hasher};
use std::time::Duration;

use aiki_core::hash::input_hash;
use aiki_core::name::WorkflowKey;
use aiki_core::run::plan::{self, ClaimDecision, CreateRun, Due, LeaseDecision, ReportContext};
use aiki_core::run::{Entry, HistoryEntry, RunHead, RunState};
use aiki_core::{Name, Report, RunId, Timestamp, Transition};

/// What the server plans with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plans {
    /// As they are.
    Real,
    /// Reports are taken under whatever epoch.
    NoFence,
    /// Results are written without a look at the claim, the number and the task.
    BlindResults,
    /// A run whose lease lapses is forgotten.
    LostOnLapse,
    /// Claims are granted over live leases.
    NoLeases,
}

/// All times are counted from here: what is stored is how far away they are.
const NOW: Timestamp = Timestamp::from_millis(1_000_000_000);
/// A step of time: as long as a lease, and longer than the pause before a run is announced again.
const TICK: Duration = Duration::from_secs(600);
const RUN: RunId = RunId::from_bits((1 << 80) + (1 << 24));

/// Something on its way to the server.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Message {
    Claim { worker: usize, life: u8 },
    Report { worker: usize, life: u8, epoch: u64, seq: u64, stage: u8 },
    Release { epoch: u64 },
}

/// What a worker is at.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Phase {
    Idle,
    Claiming,
    /// It has the run, has sent `seq` reports before, and the handler stands at `stage`.
    Working {
        epoch: u64,
        seq: u64,
        stage: u8,
        waits: bool,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Worker {
    /// Counts its starts: each has another name.
    pub(crate) life: u8,
    pub(crate) phase: Phase,
}

/// The state of everything.
#[derive(Clone, Debug)]
pub(crate) struct House {
    head: RunHead,
    workers: [Worker; 2],
    /// Sorted.
    wire: Vec<Message>,
    /// Deliveries that wait.
    queue: u8,
    faults: u8,
    /// How often each task's result was written.
    pub(crate) results: [u8; 2],
    granted: u64,
    pub(crate) old_epoch_wrote: bool,
    pub(crate) ran_again: bool,
    pub(crate) refused: bool,
    pub(crate) answered_again: bool,
}

/// What can happen next.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Step {
    Receive(usize),
    Send(usize),
    Refresh(usize),
    GiveBack(usize),
    Crash(usize),
    /// The server takes the message; its answer may be lost.
    Handle {
        at: usize,
        answered: bool,
    },
    LoseMessage(usize),
    DuplicateMessage(usize),
    DuplicateDelivery,
    LoseDelivery,
    Tick,
}

impl House {
    pub(crate) fn new(faults: u8) -> Self {
        let request = CreateRun::new(WorkflowKey::user("w", "1"), None, input_hash(None).unwrap());
        let head = plan::create(&request, RUN, &Name::new("n"), NOW, &mut Vec::new());
        let worker = Worker { life: 0, phase: Phase::Idle };
        let mut house = Self {
            head,
            workers: [worker.clone(), worker],
            wire: Vec::new(),
            queue: 1,
            faults,
            results: [0; 2],
            granted: 0,
            old_epoch_wrote: false,
            ran_again: false,
            refused: false,
            answered_again: false,
        };
        house.forget_details();
        house
    }

    pub(crate) fn is_over(&self) -> bool {
        self.head.state.is_terminal()
    }

    pub(crate) fn is_stalled(&self) -> bool {
        matches!(self.head.state, RunState::Stalled)
    }

    /// Whether the server looks at the run again by itself, whatever workers and queue do.
    pub(crate) fn is_found_again(&self) -> bool {
        self.is_over() || self.is_stalled() || self.head.due_at().is_some()
    }

    pub(crate) fn steps(&self, steps: &mut Vec<Step>) {
        for (at, worker) in self.workers.iter().enumerate() {
            match &worker.phase {
                Phase::Idle if self.queue > 0 => steps.push(Step::Receive(at)),
                Phase::Working { waits, epoch, .. } => {
                    let under_way = self.wire.iter().any(|message| message.is_of(at, worker.life, *epoch));
                    if !waits || !under_way {
                        steps.push(Step::Send(at));
                    }
                    if !waits {
                        steps.push(Step::Refresh(at));
                        // A stop; without a limit the run could be handed round for ever.
                        if self.faults > 0 {
                            steps.push(Step::GiveBack(at));
                        }
                    }
                }
                _ => {}
            }
            if self.faults > 0 && worker.phase != Phase::Idle {
                steps.push(Step::Crash(at));
            }
        }
        for at in 0..self.wire.len() {
            steps.push(Step::Handle { at, answered: true });
            if self.faults > 0 {
                steps.push(Step::Handle { at, answered: false });
                steps.push(Step::LoseMessage(at));
                if self.wire.len() < 4 {
                    steps.push(Step::DuplicateMessage(at));
                }
            }
        }
        if self.faults > 0 && self.queue < 2 {
            steps.push(Step::DuplicateDelivery);
        }
        if self.faults > 0 && self.queue > 0 {
            steps.push(Step::LoseDelivery);
        }
        // A worker that lives keeps its lease unless it stands still, which is a fault.
        if self.faults > 0 || !self.owner_lives() {
            steps.push(Step::Tick);
        }
    }

    fn owner_lives(&self) -> bool {
        let Some(lease) = &self.head.lease else { return false };
        let working =
            |worker: &Worker| matches!(&worker.phase, Phase::Working { epoch, .. } if *epoch == self.head.epoch);
        self.workers.iter().enumerate().any(|(at, worker)| lease.owner == name(at, worker.life) && working(worker))
    }

    pub(crate) fn take(&mut self, step: Step, plans: Plans) {
        match step {
            Step::Receive(at) => {
                self.queue -= 1;
                self.workers[at].phase = Phase::Claiming;
                self.send(Message::Claim { worker: at, life: self.workers[at].life });
            }
            Step::Send(at) => {
                let life = self.workers[at].life;
                if let Phase::Working { epoch, seq, stage, waits } = &mut self.workers[at].phase {
                    *waits = true;
                    let message = Message::Report { worker: at, life, epoch: *epoch, seq: *seq + 1, stage: *stage };
                    self.send(message);
                }
            }
            Step::Refresh(at) => {
                if let Phase::Working { epoch, .. } = self.workers[at].phase
                    && plan::refresh(&mut self.head, epoch, TICK, NOW) == LeaseDecision::Lost
                {
                    self.workers[at].phase = Phase::Idle;
                }
            }
            Step::GiveBack(at) => {
                if let Phase::Working { epoch, .. } = self.workers[at].phase {
                    self.faults -= 1;
                    self.workers[at].phase = Phase::Idle;
                    self.send(Message::Release { epoch });
                }
            }
            Step::Crash(at) => {
                self.faults -= 1;
                self.workers[at] = Worker { life: self.workers[at].life + 1, phase: Phase::Idle };
                // Its delivery comes again when nobody has renewed it.
                self.redeliver();
            }
            Step::LoseMessage(at) => {
                self.faults -= 1;
                self.unanswered(at);
            }
            Step::DuplicateMessage(at) => {
                self.faults -= 1;
                let message = self.wire[at].clone();
                self.wire.insert(at, message);
            }
            Step::DuplicateDelivery => {
                self.faults -= 1;
                self.redeliver();
            }
            Step::LoseDelivery => {
                self.faults -= 1;
                self.queue -= 1;
            }
            Step::Handle { at, answered } => self.handle(at, answered, plans),
            Step::Tick => self.tick(plans),
        }
        self.forget_details();
    }

    fn send(&mut self, message: Message) {
        let at = self.wire.partition_point(|other| *other < message);
        self.wire.insert(at, message);
    }

    fn redeliver(&mut self) {
        self.queue = (self.queue + 1).min(2);
    }

    /// A message is gone, and so is its answer.
    fn unanswered(&mut self, at: usize) {
        if let Message::Claim { worker, life } = self.wire.remove(at)
            && self.workers[worker].life == life
            && self.workers[worker].phase == Phase::Claiming
        {
            // The worker hands the delivery back and may get it again.
            self.workers[worker].phase = Phase::Idle;
            self.redeliver();
        }
    }

    fn tick(&mut self, plans: Plans) {
        self.faults -= u8::from(self.owner_lives());
        let now = NOW.after(TICK);
        let lapsed = self.head.lease.is_some();
        let mut entries = Vec::new();
        if plan::due(&mut self.head, now, &mut entries) == Due::Ready {
            self.redeliver();
        }
        if lapsed && plans == Plans::LostOnLapse {
            self.head.announce = None;
        }
        self.move_times(TICK);
    }

    fn handle(&mut self, at: usize, answered: bool, plans: Plans) {
        self.faults -= u8::from(!answered);
        let message = self.wire[at].clone();
        let mut entries = Vec::new();
        match message {
            Message::Claim { worker, life } => {
                if plans == Plans::NoLeases && self.head.lease.is_some() {
                    let epoch = self.head.epoch;
                    plan::release(&mut self.head, epoch, NOW, &mut entries);
                }
                let decision = plan::claim(&mut self.head, &name(worker, life), TICK, NOW, &mut entries);
                if decision == ClaimDecision::Granted {
                    self.granted = self.granted.max(self.head.epoch);
                }
                let waits = self.workers[worker].life == life && self.workers[worker].phase == Phase::Claiming;
                if !answered || !waits {
                    return self.unanswered(at);
                }
                self.wire.remove(at);
                self.workers[worker].phase = match decision {
                    ClaimDecision::Granted => {
                        let stage = self.head.tasks_opened as u8;
                        self.ran_again |= !self.head.open_tasks.is_empty();
                        Phase::Working { epoch: self.head.epoch, seq: 0, stage, waits: false }
                    }
                    ClaimDecision::Owned(_) => {
                        self.redeliver();
                        Phase::Idle
                    }
                    ClaimDecision::Done => Phase::Idle,
                };
            }
            Message::Release { epoch } => {
                self.wire.remove(at);
                if plan::release(&mut self.head, epoch, NOW, &mut entries) == LeaseDecision::Held {
                    self.redeliver();
                }
            }
            Message::Report { worker, life, epoch, seq, stage } => {
                let written = self.write(epoch, seq, stage, plans, &mut entries);
                self.wire.remove(at);
                let own = &mut self.workers[worker];
                let Phase::Working { epoch: now, seq: last, stage: stands, waits } = &mut own.phase else { return };
                let for_it = own.life == life && *now == epoch && *last + 1 == seq && *waits;
                if !answered || !for_it {
                    return;
                }
                match written {
                    true if stage < 2 => (*last, *stands, *waits) = (seq, stage + 1, false),
                    _ => own.phase = Phase::Idle,
                }
            }
        }
    }

    /// Whether the report was written, now or before.
    fn write(&mut self, epoch: u64, seq: u64, stage: u8, plans: Plans, entries: &mut Vec<HistoryEntry>) -> bool {
        let open = |n: u32| {
            let input_hash = input_hash(None).unwrap();
            Transition::TaskOpened { id: RUN.task(n), name: "t".into(), input_hash, input: None, retry: None }
        };
        let done = |n: u32| Transition::TaskCompleted { id: RUN.task(n), attempts: 1, output: None };
        let transitions = match stage {
            0 => vec![open(0)],
            1 => vec![done(0), open(1)],
            _ => vec![done(1), Transition::Completed { output: None }],
        };
        let mut report = Report { run: RUN, epoch, seq, signals: 0, transitions };
        match plans {
            Plans::NoFence => {
                (report.epoch, report.seq) =
                    (self.head.epoch, self.head.last_report.as_ref().map_or(1, |last| last.seq + 1));
            }
            Plans::BlindResults if stage > 0 => {
                let results = &mut self.results[stage as usize - 1];
                *results = (*results + 1).min(2);
            }
            _ => {}
        }
        let context = ReportContext { children: &[], history_limit: 1_000 };
        let answer = plan::report(&mut self.head, &report, context, NOW, entries);
        self.refused |= answer.is_err();
        self.answered_again |= answer.is_ok() && entries.is_empty();
        self.old_epoch_wrote |= !entries.is_empty() && epoch < self.granted;
        for entry in entries.iter() {
            if let Entry::TaskCompleted { ordinal, .. } = entry.entry {
                self.results[ordinal as usize] = (self.results[ordinal as usize] + 1).min(2);
            }
        }
        answer.is_ok()
    }

    /// Time goes by: everything is that much nearer.
    fn move_times(&mut self, by: Duration) {
        let by = by.as_millis() as u64;
        let nearer = |at: &mut Timestamp| *at = Timestamp::from_millis(at.as_millis().saturating_sub(by));
        if let Some(lease) = &mut self.head.lease {
            nearer(&mut lease.until);
        }
        if let Some(announce) = &mut self.head.announce {
            nearer(&mut announce.next);
        }
    }

    /// What no plan that is modelled looks at, or what only counts on, would keep equal states apart.
    fn forget_details(&mut self) {
        let past = Timestamp::from_millis(NOW.as_millis() - 1);
        let head = &mut self.head;
        (head.created_at, head.started_at) = (NOW, None);
        (head.revision, head.transitions, head.last_transition, head.history_len) = (0, 0, 0, 0);
        (head.settled, head.seen) = (0, None);
        if let Some(lease) = &mut head.lease {
            lease.since = NOW;
            // A lapsed lease may have lapsed at any time.
            lease.until = lease.until.max(past);
        }
        if let Some(announce) = &mut head.announce {
            announce.ready_since = NOW;
            announce.next = announce.next.max(past);
        }
        if let Some(last) = &mut head.last_report {
            last.revision = 0;
        }
    }
}

impl Message {
    fn is_of(&self, at: usize, own: u8, now: u64) -> bool {
        matches!(self, Message::Report { worker, life, epoch, .. } if (*worker, *life, *epoch) == (at, own, now))
    }
}

fn name(worker: usize, life: u8) -> Name {
    Name::from(format!("{}{life}", ["a", "b"][worker]))
}

impl PartialEq for House {
    fn eq(&self, other: &Self) -> bool {
        let rest = |house: &House| {
            (
                house.queue,
                house.faults,
                house.results,
                house.granted,
                house.old_epoch_wrote,
                house.ran_again,
                house.refused,
            )
        };
        rest(self) == rest(other)
            && self.answered_again == other.answered_again
            && self.workers == other.workers
            && self.wire == other.wire
            && self.head == other.head
    }
}

impl Eq for House {}

impl Hash for House {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        let head = &self.head;
        (head.state.status().as_str(), head.epoch, head.deliveries, &head.open_tasks, head.tasks_opened).hash(hasher);
        head.lease.as_ref().map(|lease| (lease.owner.as_str(), lease.until)).hash(hasher);
        head.last_report.as_ref().map(|last| last.seq).hash(hasher);
        head.announce.map(|announce| announce.next).hash(hasher);
        (&self.workers, &self.wire, self.queue, self.faults, self.results, self.granted).hash(hasher);
        (self.old_epoch_wrote, self.ran_again, self.refused, self.answered_again).hash(hasher);
    }
}
