//! Random workflows: a program is the input of a run, its handler interprets it.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use aiki_core::{
    Either, Event, Failure, RetryStrategy, Run, Task, TaskContext, TaskId, Workflow, WorkflowVersion, race,
};
use futures::future::join_all;
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use super::chance::Chance;
use super::process::Process;
use super::world::{World, lock};
use crate::history::{AttemptEnd, Fault, What};

/// The event that programs wait for.
pub(crate) const NUDGE: Event<u64> = Event::new("nudge");
/// The names of the workflows; all interpret the same programs.
pub(crate) const NAMES: [&str; 2] = ["alpha", "beta"];

/// What a run does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Program {
    /// One after the other.
    pub(crate) steps: Vec<Step>,
    /// The first attempt of the run fails at the end.
    pub(crate) fails: bool,
    /// How often the run has begun anew.
    pub(crate) life: u32,
    /// It begins anew with this.
    pub(crate) then: Option<Box<Program>>,
}

/// A step of a program.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Step {
    /// A task.
    Work(Work),
    /// A task whose input is the time.
    Timed(Work),
    /// A sleep of so many milliseconds.
    Nap(u64),
    /// A wait for an event, for so many milliseconds at most.
    Hear(Option<u64>),
    /// A child run.
    Child(Program, Care),
    /// Whichever comes first.
    Race(Box<Step>, Box<Step>),
    /// All at the same time.
    All(Vec<Step>),
}

/// What becomes of a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Care {
    /// It is waited for.
    Wait,
    /// It is cancelled, then waited for.
    Cancel,
    /// Nobody looks after it.
    Leave,
}

/// What a task does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Work {
    /// How long it takes, in milliseconds.
    pub(crate) ms: u64,
    /// How many attempts fail.
    pub(crate) fails: u64,
    /// They panic.
    pub(crate) panics: bool,
    /// Attempts in all.
    pub(crate) tries: u64,
    /// What it was told.
    pub(crate) told: u64,
}

impl Program {
    /// A program by chance.
    pub(crate) fn random(chance: &Chance, depth: u32) -> Self {
        let steps = (0..chance.within(1, 4)).map(|_| Step::random(chance, depth)).collect();
        let then = (depth == 0 && chance.happens(120)).then(|| {
            let next = Program::random(chance, depth + 1);
            Box::new(Program { life: 1, then: None, ..next })
        });
        Program { steps, fails: chance.happens(80), life: 0, then }
    }
}

impl Step {
    fn random(chance: &Chance, depth: u32) -> Self {
        let pick = chance.below(if depth >= 2 { 65 } else { 100 });
        match pick {
            0..35 => Step::Work(Work::random(chance)),
            35..42 => Step::Timed(Work::random(chance)),
            42..55 => Step::Nap(chance.within(10, 20_000)),
            55..65 => Step::Hear(chance.happens(800).then(|| chance.within(200, 20_000))),
            65..78 => {
                let care = [Care::Wait, Care::Wait, Care::Wait, Care::Cancel, Care::Leave];
                let care = chance.pick(&care).copied().unwrap_or(Care::Wait);
                Step::Child(Program::random(chance, depth + 1), care)
            }
            78..90 => Step::Race(Box::new(Step::random(chance, depth + 1)), Box::new(Step::random(chance, depth + 1))),
            _ => Step::All((0..chance.within(2, 4)).map(|_| Step::random(chance, depth + 1)).collect()),
        }
    }
}

impl Work {
    fn random(chance: &Chance) -> Self {
        let fails = if chance.happens(250) { chance.within(1, 3) } else { 0 };
        let ms = if chance.happens(100) { chance.within(3_000, 12_000) } else { chance.within(0, 1_500) };
        let tries = if chance.happens(700) { 3 } else { 1 };
        Work { ms, fails, panics: chance.happens(300), tries, told: 0 }
    }
}

/// Where handlers and bodies run.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) world: Arc<World>,
    pub(crate) process: Arc<Process>,
}

/// The workflow of this name, in this process.
pub(crate) fn workflow(place: &Place, name: &str) -> WorkflowVersion<Program, u64, Failure> {
    let own = place.clone();
    let named = name.to_owned();
    Workflow::new(name)
        .version("1", move |run: Run, program: Program| {
            let (place, name) = (own.clone(), named.clone());
            async move { interpret(&run, program, place, &name).await }
        })
        .event(&NUDGE)
}

/// A pass over one life of a run.
struct Life {
    name: String,
    epoch: u64,
}

async fn interpret(run: &Run, program: Program, place: Place, name: &str) -> Result<u64, Failure> {
    let epoch = lock(&place.world.granted).get(&run.id()).copied().unwrap_or_default();
    let life = Life { name: format!("{}.{}", program.life, run.attempt()), epoch };
    let count = program.steps.len() as u64;
    for (at, step) in program.steps.into_iter().enumerate() {
        let value = perform(run, step, place.clone(), name, format!("{at}"), &life).await;
        decided(&place, run, &life, format!("{at}"), value);
    }
    if program.fails && run.attempt() == 1 {
        return Err(Failure::new("Planned", "the first attempt fails"));
    }
    if let Some(next) = program.then {
        return run.continue_as_new(*next).await;
    }
    Ok(count)
}

fn decided(place: &Place, run: &Run, life: &Life, at: String, value: String) {
    if !place.process.is_dead() {
        place.world.note(What::Decided {
            run: run.id(),
            worker: place.process.name(),
            epoch: life.epoch,
            life: life.name.clone(),
            place: at,
            value,
        });
    }
}

type Performing<'a> = Pin<Box<dyn Future<Output = String> + Send + 'a>>;

fn perform<'a>(run: &'a Run, step: Step, place: Place, name: &'a str, at: String, life: &'a Life) -> Performing<'a> {
    Box::pin(async move {
        match step {
            Step::Work(work) => task(&place, work.tries).start(run, work).await.unwrap_or_else(|_| "failed".into()),
            Step::Timed(work) => {
                let told = run.now().as_millis();
                let work = Work { told, ..work };
                let value = task(&place, work.tries).start(run, work).await;
                format!("{told} {}", value.unwrap_or_else(|_| "failed".into()))
            }
            Step::Nap(ms) => {
                run.sleep("nap", Duration::from_millis(ms)).await;
                "slept".into()
            }
            Step::Hear(None) => format!("heard {}", run.event(&NUDGE).await),
            Step::Hear(Some(ms)) => match run.event_within(&NUDGE, Duration::from_millis(ms)).await {
                Ok(number) => format!("heard {number}"),
                Err(_) => "heard nothing".into(),
            },
            Step::Child(program, care) => {
                let child = workflow(&place, name).start_child(run, program);
                match care {
                    Care::Leave => return "left".into(),
                    Care::Cancel => child.cancel(),
                    Care::Wait => {}
                }
                match child.wait().await {
                    Ok(value) => format!("child {value}"),
                    Err(_) => "child failed".into(),
                }
            }
            Step::Race(left, right) => {
                let (one, other) = (format!("{at}l"), format!("{at}r"));
                let left = perform(run, *left, place.clone(), name, one, life);
                let right = perform(run, *right, place.clone(), name, other, life);
                match race(left, right).await {
                    Either::Left(value) => format!("left {value}"),
                    Either::Right(value) => format!("right {value}"),
                }
            }
            Step::All(steps) => {
                let all = steps.into_iter().enumerate().map(|(n, step)| {
                    let at = format!("{at}.{n}");
                    let place = place.clone();
                    async move {
                        let value = perform(run, step, place.clone(), name, at.clone(), life).await;
                        decided(&place, run, life, at, value.clone());
                        value
                    }
                });
                join_all(all).await.join(",")
            }
        }
    })
}

fn task(place: &Place, tries: u64) -> Task<Work, String, Failure> {
    let place = place.clone();
    let task = Task::new("work", move |cx: TaskContext, work: Work| {
        let place = place.clone();
        async move { body(cx, work, place).await }
    });
    match tries {
        0 | 1 => task,
        tries => task.retry(RetryStrategy::fixed(tries, Duration::from_millis(700))),
    }
}

async fn body(cx: TaskContext, work: Work, place: Place) -> Result<String, Failure> {
    let Place { world, process } = &place;
    process.alive().await;
    let mut attempt = Attempt::begin(place.clone(), cx.task_id(), cx.attempt());
    sleep(Duration::from_millis(work.ms / 2)).await;
    process.alive().await;
    let (task, number) = (cx.task_id(), cx.attempt());
    world.note(What::Effect { task, attempt: number, worker: process.name() });
    if process.killed_after_effect.swap(false, Ordering::SeqCst) && !world.is_calm() {
        world.fault(Fault::KilledAfterEffect, Some(process));
        process.die_here().await;
    }
    sleep(Duration::from_millis(work.ms / 2)).await;
    process.alive().await;
    if cx.attempt() <= work.fails {
        if work.panics {
            std::panic::panic_any("a planned panic");
        }
        attempt.end(AttemptEnd::Failed);
        return Err(Failure::new("Planned", "this attempt fails"));
    }
    attempt.end(AttemptEnd::Returned);
    // Two executions never return the same.
    Ok(format!("{}#{}", cx.attempt(), world.next_number()))
}

/// Notes how an attempt ends, however it does.
struct Attempt {
    place: Place,
    task: TaskId,
    attempt: u64,
    over: bool,
}

impl Attempt {
    fn begin(place: Place, task: TaskId, attempt: u64) -> Self {
        place.world.note(What::Began { task, attempt, worker: place.process.name() });
        Self { place, task, attempt, over: false }
    }

    fn end(&mut self, how: AttemptEnd) {
        self.over = true;
        let worker = self.place.process.name();
        self.place.world.note(What::Ended { task: self.task, attempt: self.attempt, worker, how });
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if !self.over && !self.place.process.is_dead() {
            self.end(if std::thread::panicking() { AttemptEnd::Panicked } else { AttemptEnd::Dropped });
        }
    }
}
