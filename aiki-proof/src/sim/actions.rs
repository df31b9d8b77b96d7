//! What callers do, and what goes wrong, at each turn.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use aiki_core::{Client, Priority, RetryStrategy, RunId, Schedule, ServerError};
use tokio::time::sleep;

use super::bug::Bug;
use super::house::House;
use super::process::{Ambush, Process};
use super::program::{NAMES, NUDGE, Place, Program, workflow};
use super::world::{LEASE, World, lock};
use crate::history::Fault;

/// So often a caller repeats what it was not answered.
const TRIES: u32 = 40;

impl House {
    /// One thing that a caller does, or that goes wrong, or neither.
    pub(super) fn act(&mut self) -> Result<(), String> {
        let chance = self.world.chance.below(1000);
        match chance {
            0..150 => self.start_run(),
            150..260 => self.with_run(|client, run, name, world| Box::pin(send_event(client, run, name, world))),
            260..280 => self.with_run(|client, run, _, _| {
                Box::pin(async move { drop(client.server().cancel_run(run, None).await) })
            }),
            280..320 => self.with_run(|client, run, _, world| Box::pin(pause(client, run, world))),
            320..330 => self.with_run(|client, run, _, _| {
                let command = aiki_core::run::plan::RunCommand::WakeUp;
                Box::pin(async move { drop(client.server().command_run(run, command).await) })
            }),
            330..350 => self.schedule(),
            350..370 => self.kill_somebody(),
            370..410 => self.lie_in_wait(),
            410..440 => self.freeze(),
            440..455 => {
                let at = self.some_worker();
                self.stop_worker(at);
            }
            455..470 => self.restart_server(),
            470..480 => {
                self.world.fault(Fault::TransportWiped, None);
                self.world.transport.wipe();
            }
            480..490 => {
                self.world.fault(Fault::TransportDown, None);
                self.world.transport.down.store(true, Ordering::SeqCst);
                self.transport_back_at = self.now + self.world.chance.within(500, 12_000);
            }
            490..500 => self.set_clock(),
            500..700 => {
                for at in 0..self.slots.len() {
                    if self.slots[at].node.is_none() {
                        return self.start_worker(at);
                    }
                }
            }
            // A fence is needed where workers stand still; otherwise they let go of their claims in time.
            700..800 if self.world.bug == Some(Bug::NoFence) => self.freeze(),
            _ => {}
        }
        Ok(())
    }

    fn some_worker(&self) -> usize {
        self.world.chance.below(self.slots.len() as u64) as usize
    }

    fn place(&self) -> Place {
        Place { world: Arc::clone(&self.world), process: Process::new("clients") }
    }

    fn start_run(&mut self) {
        let world = Arc::clone(&self.world);
        let chance = &world.chance;
        let name = chance.pick(&NAMES).copied().unwrap_or(NAMES[0]);
        // Few keys, so that they meet; the same key has the same program.
        let key = chance.happens(600).then(|| chance.below(60));
        let program = match key {
            Some(key) => Program::random(&super::chance::Chance::new(self.seed ^ (key + 1)), 0),
            None => Program::random(chance, 0),
        };
        let mut start = workflow(&self.place(), name).start(&self.client, program);
        if let Some(key) = key {
            start = start.reference_id(format!("key-{key}"));
        }
        start = start
            .priority(chance.pick(&[Priority::Low, Priority::Normal, Priority::High]).copied().unwrap_or_default());
        if chance.happens(300) {
            start = start.concurrency(format!("c{}", chance.below(2)), chance.within(1, 2) as u32);
        }
        if chance.happens(200) {
            start = start.delay(Duration::from_millis(chance.within(10, 8_000)));
        }
        if chance.happens(80) {
            start = start.time_limit(Duration::from_millis(chance.within(1_000, 30_000)));
        }
        if chance.happens(500) {
            start = start.retry(RetryStrategy::fixed(2, Duration::from_millis(500)));
        }
        self.clients.spawn(async move {
            // A caller without a key does not know whether it may try again.
            if let Ok(handle) = start.await {
                lock(&world.runs).push((handle.id(), name.to_owned()));
            }
        });
    }

    fn with_run(&mut self, act: impl FnOnce(Client, RunId, String, Arc<World>) -> Acting) {
        let Some((run, name)) = self.world.chance.pick(&lock(&self.world.runs)).cloned() else { return };
        self.clients.spawn(act(self.client.clone(), run, name, Arc::clone(&self.world)));
    }

    fn schedule(&mut self) {
        if self.schedules >= 2 {
            return;
        }
        self.schedules += 1;
        let world = Arc::clone(&self.world);
        let every = Duration::from_millis(world.chance.within(3_000, 9_000));
        let key = format!("schedule-{}", self.schedules);
        let program = Program::random(&world.chance, 2);
        let (client, workflow) = (self.client.clone(), workflow(&self.place(), NAMES[0]));
        self.clients.spawn(async move {
            for _ in 0..TRIES {
                let schedule = Schedule::every(every).reference_id(key.clone());
                match schedule.activate(&client, &workflow, program.clone()).await {
                    Err(aiki_core::ScheduleError::Server(ServerError::Unavailable(_))) => {
                        sleep(Duration::from_millis(500)).await;
                    }
                    _ => return,
                }
            }
        });
    }

    fn kill_somebody(&mut self) {
        let at = self.some_worker();
        let Some(process) = self.slots[at].node.as_ref().map(|node| Arc::clone(&node.process)) else { return };
        self.world.fault(Fault::WorkerKilled, Some(&process));
        self.kill_worker(at);
    }

    /// A worker is going to die at a certain point of its code.
    fn lie_in_wait(&mut self) {
        let at = self.some_worker();
        let Some(node) = &self.slots[at].node else { return };
        let chance = &self.world.chance;
        if chance.happens(300) {
            node.process.killed_after_effect.store(true, Ordering::SeqCst);
        } else {
            *lock(&node.process.ambush) = Some(Ambush { calls: chance.below(6), applied: chance.happens(500) });
        }
    }

    fn freeze(&mut self) {
        let at = self.some_worker();
        let (now, world) = (self.now, &self.world);
        let Some(node) = &mut self.slots[at].node else { return };
        if node.frozen_until > 0 {
            return;
        }
        let lease = LEASE.as_millis() as u64;
        let long = world.chance.happens(500);
        let lasts =
            if long { world.chance.within(lease + 500, 2 * lease) } else { world.chance.within(500, lease / 2) };
        node.frozen_until = now + lasts;
        let process = Arc::clone(&node.process);
        world.fault(if long { Fault::WorkerPaused } else { Fault::WorkerHiccup }, Some(&process));
    }

    fn restart_server(&mut self) {
        if self.server.is_none() {
            return;
        }
        self.world.fault(Fault::ServerRestarted, None);
        self.kill_server();
        self.server_back_at = self.now + self.world.chance.within(0, 6_000);
    }

    fn set_clock(&mut self) {
        let by = self.world.chance.within(100, 20_000) as i64;
        if self.world.chance.happens(500) {
            self.world.fault(Fault::ServerClockForward, None);
            self.world.server_clock.set(by);
        } else {
            self.world.fault(Fault::ServerClockBack, None);
            self.world.server_clock.set(-by);
        }
    }
}

type Acting = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

/// Sends an event until the server has answered.
async fn send_event(client: Client, run: RunId, name: String, world: Arc<World>) {
    let place = Place { world: Arc::clone(&world), process: Process::new("clients") };
    let handle = client.handle(&workflow(&place, &name), run);
    let number = world.next_number();
    for _ in 0..TRIES {
        let sent = handle.send_event(&NUDGE, number).reference_id(format!("n{number}")).await;
        match sent {
            Err(aiki_core::SendEventError::Server(ServerError::Unavailable(_))) => {
                sleep(Duration::from_millis(500)).await;
            }
            _ => return,
        }
    }
}

/// Pauses a run for a while.
async fn pause(client: Client, run: RunId, world: Arc<World>) {
    use aiki_core::run::plan::RunCommand;
    if client.server().command_run(run, RunCommand::Pause).await.is_err() {
        return;
    }
    sleep(Duration::from_millis(world.chance.within(100, 8_000))).await;
    for _ in 0..TRIES {
        match client.server().command_run(run, RunCommand::Resume).await {
            Err(ServerError::Unavailable(_)) => sleep(Duration::from_millis(500)).await,
            _ => return,
        }
    }
}
