//! The processes of a simulation and the turns that they take.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use aiki_core::run::RunState;
use aiki_core::run::plan::{EventMessage, RunCommand};
use aiki_core::server_client::SendEvent;
use aiki_core::{Client, Clock, Name, Payload, RunId, ScheduleStatus};
use aiki_runtime::SeededEntropy;
use aiki_server::Server;
use aiki_worker::Worker;

use super::kept::Kept;
use super::line::Line;
use super::process::{Node, Process};
use super::program::{NAMES, NUDGE, Place, workflow};
use super::transport::{Announcements, Deliveries};
use super::world::{LEASE, LocalClock, World, lock};
use super::{Bug, Options, Outcome, ways};
use crate::check::{Bounds, judge};
use crate::end::{End, Gauge, Shown, Views};
use crate::history::{Fault, What};

/// A turn lasts one of these, in milliseconds. Less than half of the time by which a worker lets go of a
/// claim before its lease ends: processes in the same turn disagree by that much about the time.
const TURNS: [u64; 6] = [5, 20, 50, 100, 250, 400];
/// Longest time to come to rest, in milliseconds.
const LONGEST_REST: u64 = 900_000;
/// What is due goes on within this time when nothing is wrong.
const LATE: Duration = Duration::from_secs(60);

/// A turn and the longest way to the server and back.
const EARLY: Duration = Duration::from_millis(1_000);

/// A worker, or the place of one.
pub(super) struct Slot {
    pub(super) id: String,
    pub(super) node: Option<Node>,
    pub(super) worker: Option<Worker>,
    /// It was asked to stop, and has.
    pub(super) stopped: Arc<AtomicBool>,
    pub(super) stopping: bool,
}

pub(super) struct House {
    pub(super) world: Arc<World>,
    pub(super) kept: Kept,
    pub(super) server: Option<(Server, Node)>,
    /// The server comes back then.
    pub(super) server_back_at: u64,
    pub(super) transport_back_at: u64,
    pub(super) clients: Node,
    pub(super) client: Client,
    pub(super) slots: Vec<Slot>,
    pub(super) now: u64,
    pub(super) schedules: u32,
    pub(super) seed: u64,
    workers_ever: BTreeSet<Name>,
    tasks_left: Vec<Gauge>,
}

fn broken(error: impl std::fmt::Display) -> String {
    format!("the simulation itself is broken: {error}")
}

impl House {
    pub(super) fn build(seed: u64, options: Options) -> Result<Self, String> {
        let world = World::new(seed, options.bug);
        let process = Process::new("clients");
        let clients = Node::start(Arc::clone(&process), world.epoch, 0).map_err(broken)?;
        let client = Line::client(&world, &process);
        let slots = (0..options.workers).map(|n| Slot {
            id: format!("w{n}"),
            node: None,
            worker: None,
            stopped: Arc::default(),
            stopping: false,
        });
        let mut house = House {
            slots: slots.collect(),
            kept: Kept::new(options.store).map_err(broken)?,
            server: None,
            server_back_at: 0,
            transport_back_at: 0,
            clients,
            client,
            now: 0,
            schedules: 0,
            seed,
            workers_ever: BTreeSet::new(),
            tasks_left: Vec::new(),
            world,
        };
        house.start_server()?;
        for at in 0..house.slots.len() {
            house.start_worker(at)?;
        }
        Ok(house)
    }

    pub(super) fn start_server(&mut self) -> Result<(), String> {
        let node = Node::start(Process::new("server"), self.world.epoch, self.now).map_err(broken)?;
        let builder = self
            .kept
            .lend(Server::builder())
            .clock(Arc::clone(&self.world.server_clock) as Arc<dyn Clock>)
            .entropy(Arc::new(SeededEntropy::new(self.world.chance.next())))
            .publisher(Arc::new(Announcements(Arc::clone(&self.world))));
        let server = node.block_on(builder.start()).ok_or_else(|| broken("no runtime"))?.map_err(broken)?;
        self.world.set_server(Some(Arc::clone(server.client_of_another_process().server())));
        self.server = Some((server, node));
        Ok(())
    }

    /// Kills the server: what it had committed is all that is left.
    pub(super) fn kill_server(&mut self) {
        self.world.set_server(None);
        if let Some((server, mut node)) = self.server.take() {
            node.block_on(server.close());
            node.kill();
        }
        if self.world.bug == Some(Bug::LostPage) {
            let known: Vec<RunId> = lock(&self.world.runs).iter().map(|(run, _)| *run).collect();
            if let Some(run) = known.last() {
                self.kept.lose_tail(*run);
            }
        }
    }

    pub(super) fn start_worker(&mut self, at: usize) -> Result<(), String> {
        let world = &self.world;
        let skew =
            if world.goes_wrong(150) { [3_600_000, 3_600_000, -3_600_000][world.chance.below(3) as usize] } else { 0 };
        let slot = &mut self.slots[at];
        let process = Process::new(&slot.id);
        let node = Node::start(Arc::clone(&process), world.epoch, self.now).map_err(broken)?;
        let place = Place { world: Arc::clone(world), process: Arc::clone(&process) };
        let builder = Worker::builder(Line::client(world, &process))
            .id(slot.id.as_str())
            .max_concurrent_workflow_runs(world.chance.within(2, 6) as usize)
            .subscriber(Deliveries { world: Arc::clone(world), process: Arc::clone(&process) })
            .clock(Arc::new(LocalClock { epoch: world.epoch, skew }))
            .entropy(Arc::new(SeededEntropy::new(world.chance.next())))
            .graceful_shutdown_timeout(Duration::from_secs(2))
            .heartbeat_on_runtime(true);
        let worker = node.block_on(async { builder.build() }).ok_or_else(|| broken("no runtime"))?.map_err(broken)?;
        for name in NAMES {
            worker.workflow_registry().add(workflow(&place, name));
        }
        process.rename(worker.name());
        self.workers_ever.insert(process.name());
        if skew != 0 {
            world.fault(Fault::WorkerClockSkewed, Some(&process));
        }
        let running = worker.clone();
        node.spawn(async move { drop(running.start().await) });
        (slot.node, slot.worker, slot.stopped, slot.stopping) = (Some(node), Some(worker), Arc::default(), false);
        Ok(())
    }

    /// Asks a worker to stop.
    pub(super) fn stop_worker(&mut self, at: usize) {
        let slot = &mut self.slots[at];
        let (Some(node), Some(worker)) = (&slot.node, slot.worker.clone()) else { return };
        if std::mem::replace(&mut slot.stopping, true) {
            return;
        }
        let (world, process, stopped) = (Arc::clone(&self.world), Arc::clone(&node.process), Arc::clone(&slot.stopped));
        node.spawn(async move {
            worker.stop().await;
            // Who died meanwhile drops what it held, and tells nobody that it has stopped.
            process.alive().await;
            world.note(What::Stopped { worker: process.name() });
            stopped.store(true, Ordering::SeqCst);
        });
    }

    /// Ends the process of a worker where it stands.
    pub(super) fn kill_worker(&mut self, at: usize) {
        let slot = &mut self.slots[at];
        slot.worker = None;
        if let Some(mut node) = slot.node.take() {
            lock(&self.world.transport.held).remove(&node.process.name());
            node.kill();
        }
    }

    /// Lets everybody have some time.
    pub(super) fn turn(&mut self) -> Result<(), String> {
        let turn = self.world.chance.pick(&TURNS).copied().unwrap_or(100);
        self.turn_of(turn)
    }

    fn turn_of(&mut self, turn: u64) -> Result<(), String> {
        let until = self.now + turn;
        let mut order: Vec<usize> = (0..self.slots.len() + 2).collect();
        for at in (1..order.len()).rev() {
            order.swap(at, self.world.chance.below(at as u64 + 1) as usize);
        }
        for at in order {
            match at.checked_sub(2) {
                None if at == 0 => {
                    self.clients.step(until);
                }
                None => {
                    if let Some((_, node)) = &mut self.server {
                        node.step(until);
                    }
                }
                Some(at) => {
                    let slot = &mut self.slots[at];
                    let alive = slot.node.as_mut().is_some_and(|node| node.step(until));
                    if slot.node.is_some() && (!alive || slot.stopped.load(Ordering::SeqCst)) {
                        if alive && let Some(node) = &slot.node {
                            let name = format!("tasks of {} after its stop", node.process.name());
                            self.tasks_left.push(Gauge { name, baseline: 0, now: node.tasks() });
                        }
                        self.kill_worker(at);
                    }
                }
            }
        }
        self.now = until;
        self.world.round.store(until, Ordering::SeqCst);
        if self.server.is_none() && self.now >= self.server_back_at {
            self.start_server()?;
        }
        if self.now >= self.transport_back_at {
            self.world.transport.down.store(false, Ordering::SeqCst);
        }
        Ok(())
    }

    /// All runs that anybody has heard of.
    fn known(&self) -> BTreeSet<RunId> {
        lock(&self.world.known).clone()
    }

    /// Nothing goes wrong any more: everything may come to rest.
    pub(super) fn settle(&mut self) -> Result<(), String> {
        self.world.calm.store(true, Ordering::SeqCst);
        (self.server_back_at, self.transport_back_at) = (self.now, self.now);
        for slot in &mut self.slots {
            if let Some(node) = &mut slot.node {
                *lock(&node.process.ambush) = None;
                node.frozen_until = node.frozen_until.min(self.now + 1);
            }
        }
        let begun = self.now;
        let mut turns = 0_u32;
        loop {
            for at in 0..self.slots.len() {
                if self.slots[at].node.is_none() {
                    self.start_worker(at)?;
                }
            }
            self.turn_of(400)?;
            turns += 1;
            if turns.is_multiple_of(12) && self.nudge()? || self.now - begun > LONGEST_REST {
                break;
            }
        }
        // Deliveries that nobody holds any more come round once more, and are settled.
        let until = self.now + 4 * LEASE.as_millis() as u64;
        while self.now < until {
            self.turn_of(400)?;
        }
        for at in 0..self.slots.len() {
            self.stop_worker(at);
        }
        let until = self.now + 30_000;
        while self.now < until && self.slots.iter().any(|slot| slot.node.is_some()) {
            self.turn_of(100)?;
        }
        Ok(())
    }

    /// Helps on whoever waits for a caller. Whether every run has ended.
    fn nudge(&mut self) -> Result<bool, String> {
        let known = self.known();
        let server = self.world.server().ok_or_else(|| broken("there is no server"))?;
        let world = Arc::clone(&self.world);
        let nudging = async move {
            let mut ended = true;
            let filter = aiki_core::schedule::ScheduleFilter::default();
            for schedule in server.list_schedules(filter, 100, 0).await?.schedules {
                if schedule.status == ScheduleStatus::Active {
                    server.set_schedule_status(schedule.id, ScheduleStatus::Paused).await?;
                }
            }
            for run in known {
                let Ok(view) = server.await_run(run, Duration::ZERO).await else { continue };
                if view.state.is_terminal() {
                    continue;
                }
                ended = false;
                let command = match view.state {
                    RunState::Paused => Some(RunCommand::Resume),
                    RunState::Stalled => Some(RunCommand::Requeue),
                    _ => None,
                };
                if let Some(command) = command
                    && server.command_run(run, command).await.is_ok()
                {
                    world.note(What::Intervened { run });
                }
                let data = Payload::of(&world.next_number()).ok();
                let event = EventMessage { name: NUDGE.name().to_owned(), data, reference_id: None };
                // It may have ended meanwhile, or not be waiting.
                let _ = server.send_event(SendEvent { run, event }).await;
            }
            Ok::<bool, aiki_core::ServerError>(ended)
        };
        self.clients.block_on(nudging).ok_or_else(|| broken("no runtime"))?.map_err(broken)
    }

    /// Looks at everything and judges.
    pub(super) fn judge(mut self, began: Instant) -> Result<Outcome, String> {
        let mut wanted = self.known();
        let server = self.world.server().ok_or_else(|| broken("there is no server"))?;
        let clock = Arc::clone(&self.world.server_clock);
        let looking = async move {
            let mut end = End { now: clock.now(), ..End::default() };
            while let Some(run) = wanted.pop_first() {
                if end.runs.contains_key(&run) {
                    continue;
                }
                let shown = async {
                    let record = server.get_run(run).await?;
                    Ok(Shown { record, transitions: server.list_transitions(run).await? })
                };
                let shown = shown.await;
                if let Ok(Shown { record, .. }) = &shown {
                    wanted.extend(record.children.iter().filter_map(|child| child.run));
                }
                end.runs.insert(run, shown);
            }
            end
        };
        let end = self.clients.block_on(looking).ok_or_else(|| broken("no runtime"))?;
        self.world.set_server(None);
        if let Some((server, mut node)) = self.server.take() {
            node.block_on(server.close());
            node.kill();
        }
        let history = self.world.ledger.history();
        let views = Inside {
            house: &self,
            open: end.runs.values().flatten().filter(|shown| !shown.record.state.is_terminal()).count() as u64,
        };
        let violations = judge(&history, &end, &views, Bounds { late: LATE, early: EARLY, lease: LEASE });
        let mut ways = ways::taken(&history, &end);
        ways.extend(lock(&self.world.taken).iter());
        let (simulated, took) = (Duration::from_millis(self.now), began.elapsed());
        Ok(Outcome { seed: self.seed, violations, history, end, ways, simulated, took })
    }
}

/// What can be counted from inside.
struct Inside<'a> {
    house: &'a House,
    /// Runs that have not ended.
    open: u64,
}

impl Views for Inside<'_> {
    fn announcements(&self, run: RunId) -> Option<usize> {
        self.house.kept.announcements(run)
    }

    fn held_by(&self, worker: &Name) -> Option<usize> {
        let held = lock(&self.house.world.transport.held);
        Some(held.get(worker).map_or(0, |own| own.len()))
    }

    fn gauges(&self) -> Vec<Gauge> {
        let queue = self.house.world.transport.queue();
        let entries = (queue.depth() + queue.held() + queue.delayed()) as u64;
        let timers = self.house.kept.timers().unwrap_or_default() as u64;
        let mut gauges = vec![
            Gauge { name: "entries in the transport".into(), baseline: self.open, now: entries },
            Gauge { name: "timers in the store".into(), baseline: self.open, now: timers },
        ];
        gauges.extend(self.house.tasks_left.iter().cloned());
        gauges
    }
}
