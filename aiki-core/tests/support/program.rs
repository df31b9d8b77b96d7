//! Workflows as data: a tree that one handler walks, and strategies that make such trees.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use aiki_core::context::Child;
use aiki_core::{
    ChildError, Event, Failure, RegisteredWorkflow, RetryStrategy, Run, Task, TaskContext, Workflow, WorkflowVersion,
};
use futures::future::{Either, join_all, select};
use futures::stream::{FuturesUnordered, StreamExt};
use proptest::prelude::*;
use serde::{Deserialize, Serialize};

use super::World;

/// How a task's failures are repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    Never,
    /// Waits in the process.
    Short,
    /// Waits on the server.
    Long,
}

impl Patience {
    fn strategy(self) -> RetryStrategy {
        match self {
            Patience::Never => RetryStrategy::Never,
            Patience::Short => RetryStrategy::fixed(3, Duration::from_millis(4)),
            Patience::Long => RetryStrategy::fixed(3, Duration::from_millis(30_011)),
        }
    }
}

/// The events that programs wait for. What they carry is their number among all that were sent.
pub(crate) const EVENTS: [Event<u32>; 2] = [Event::new("paid"), Event::new("packed")];

/// A program that continues as new gets its generation in thousands and its first input below.
const GENERATION: u32 = 1_000;

/// How long a body may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limit {
    None,
    /// Milliseconds in all.
    Whole(u64),
    /// Milliseconds between heartbeats. The body gives one when it begins and none later.
    Heartbeat(u64),
}

/// A task call. Its body fails in the first `failures` attempts and then succeeds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) name: &'static str,
    pub(crate) value: u32,
    pub(crate) failures: u64,
    pub(crate) patience: Patience,
    /// How many ticks the body takes; 0 ends at once.
    pub(crate) ticks: u8,
    pub(crate) limit: Limit,
    /// The body says at each step how far it has got.
    pub(crate) checkpoints: bool,
}

impl Call {
    pub(crate) fn new(name: &'static str, value: u32) -> Self {
        Self { name, value, failures: 0, patience: Patience::Never, ticks: 0, limit: Limit::None, checkpoints: false }
    }

    pub(crate) fn ticks(mut self, ticks: u8) -> Self {
        self.ticks = ticks;
        self
    }

    pub(crate) fn within(mut self, limit: Limit) -> Self {
        self.limit = limit;
        self
    }

    pub(crate) fn checkpoints(mut self) -> Self {
        self.checkpoints = true;
        self
    }

    pub(crate) fn failing(mut self, failures: u64, patience: Patience) -> Self {
        (self.failures, self.patience) = (failures, patience);
        self
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Node {
    Call(Call),
    /// One after the other.
    Seq(Vec<Node>),
    /// All at once, with `join_all`.
    Join(Vec<Node>),
    /// All at once; whoever ends first is followed up first.
    Unordered(Vec<Node>),
    /// All at once; whatever is ready together is handled by one task.
    Chunks(Vec<Call>),
    /// The first wins, the other is dropped.
    Race(Box<Node>, Box<Node>),
    Sleep(u64),
    /// Reads the time and hands it to a task.
    Now,
    /// Draws chance and hands it to a task.
    Chance,
    /// Catches a failure and makes up for it.
    Caught(Call, Call),
    /// The same call several times at once.
    Twins(Call, u8),
    /// Calls first, awaits something else, then awaits the call.
    Late(Call, Box<Node>),
    /// Begins a sleep, awaits something else, then awaits the sleep.
    LateSleep(u64, Box<Node>),
    /// Calls and never looks.
    Dropped(Call),
    /// Waits for one of the [`EVENTS`], at most for so many milliseconds.
    Event(usize, Option<u64>),
    /// Starts a child with this input and waits for it, at most for so many milliseconds.
    Child(u32, Option<u64>),
    /// Starts a child, does something else, then waits for the child.
    LateChild(u32, Box<Node>),
    /// Starts a child and has it cancelled; waits for its end.
    CancelledChild(u32),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Program {
    pub(crate) root: Node,
    /// The handler fails at its end in so many attempts of the run.
    pub(crate) failures: u64,
    pub(crate) retried: bool,
    /// The handler begins again as new so many times.
    pub(crate) continues: u32,
}

/// The input of every task: what it needs to know to behave as the call says.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Input {
    value: u32,
    failures: u64,
    ticks: u8,
    checkpoints: bool,
}

type Eval<'a> = Pin<Box<dyn Future<Output = Result<u32, Failure>> + Send + 'a>>;

fn mix(a: u32, b: u32) -> u32 {
    (a ^ 0x9E37_79B9).wrapping_mul(31).wrapping_add(b).rotate_left(7)
}

fn task(world: &World, call: &Call) -> Task<Input, u32> {
    let (world, name) = (world.clone(), call.name);
    let task = Task::new(name, move |cx: TaskContext, input: Input| {
        let work = world.begin(&cx, input.ticks);
        let attempt = cx.attempt();
        let tell = input.checkpoints.then_some(cx);
        async move {
            if let Some(cx) = &tell {
                cx.heartbeat_with(&work.checkpoint())?;
            }
            work.stage().await;
            if let Some(cx) = &tell {
                cx.heartbeat_with(&work.checkpoint())?;
            }
            work.await;
            if attempt <= input.failures {
                return Err(Failure::new("Broken", format!("attempt {attempt}")));
            }
            // What a task does with the time must not tell one run from another.
            Ok(if name == "now" { 7 } else { mix(name.len() as u32, input.value) })
        }
    })
    .retry(call.patience.strategy());
    match call.limit {
        Limit::None => task,
        Limit::Whole(ms) => task.time_limit(Duration::from_millis(ms)),
        Limit::Heartbeat(ms) => task.heartbeat_timeout(Duration::from_millis(ms)),
    }
}

fn child() -> WorkflowVersion<u32, u32, Failure> {
    Workflow::new("part").version("1", |_: Run, input: u32| async move { Ok::<_, Failure>(input) })
}

/// How a child ended, as one number.
async fn ended(child: &Child<'_, u32, Failure>, timeout: Option<u64>) -> u32 {
    let result = match timeout {
        None => child.wait().await,
        Some(ms) => child.wait_within(Duration::from_millis(ms)).await,
    };
    match result {
        Ok(value) => value,
        Err(ChildError::Failed { .. }) => 11,
        Err(ChildError::Cancelled { .. }) => 12,
        Err(ChildError::TimedOut { .. }) => 13,
        Err(ChildError::WaitTimedOut { .. }) => 14,
        Err(ChildError::Engine { .. }) => 15,
    }
}

#[track_caller]
fn start<'a>(run: &'a Run, world: &World, call: &Call, acc: u32) -> aiki_core::context::TaskFuture<'a, u32, Failure> {
    let input = Input {
        value: mix(acc, call.value),
        failures: call.failures,
        ticks: call.ticks,
        checkpoints: call.checkpoints,
    };
    task(world, call).start(run, input)
}

/// Walks a node. `acc` is what the handler knows so far; it goes into every input, so that a value
/// that came out differently shows in everything after it.
fn eval<'a>(run: &'a Run, world: &'a World, node: &'a Node, acc: u32) -> Eval<'a> {
    Box::pin(async move {
        let value = match node {
            Node::Call(call) => start(run, world, call, acc).await?,
            Node::Seq(nodes) => {
                let mut acc = acc;
                for node in nodes {
                    acc = mix(acc, eval(run, world, node, acc).await?);
                }
                acc
            }
            Node::Join(nodes) => {
                let all = join_all(nodes.iter().map(|node| eval(run, world, node, acc))).await;
                all.into_iter().try_fold(acc, |acc, value| Ok::<_, Failure>(mix(acc, value?)))?
            }
            Node::Unordered(nodes) => {
                let mut acc = acc;
                let ranked = |first: bool, eval: Eval<'a>| async move { (first, eval.await) };
                let mut set: FuturesUnordered<_> =
                    nodes.iter().map(|node| ranked(true, eval(run, world, node, acc))).collect();
                while let Some((first, value)) = set.next().await {
                    acc = mix(acc, value?);
                    world.note(format!("next {acc}"));
                    if first {
                        let follow_up = start(run, world, &Call::new("follow-up", 0).ticks(1), acc);
                        set.push(ranked(false, Box::pin(async move { Ok(follow_up.await?) })));
                    }
                }
                acc
            }
            Node::Chunks(calls) => {
                let set: FuturesUnordered<_> = calls.iter().map(|call| start(run, world, call, acc)).collect();
                let mut chunks = set.ready_chunks(8);
                let mut acc = acc;
                while let Some(chunk) = chunks.next().await {
                    for value in chunk {
                        acc = mix(acc, value?);
                    }
                    acc = mix(acc, start(run, world, &Call::new("chunk", 1), acc).await?);
                }
                acc
            }
            Node::Race(left, right) => match select(eval(run, world, left, acc), eval(run, world, right, acc)).await {
                Either::Left((value, _)) => mix(1, value?),
                Either::Right((value, _)) => mix(2, value?),
            },
            Node::Sleep(ms) => {
                run.sleep(sleep_name(*ms), Duration::from_millis(*ms)).await;
                3
            }
            Node::Now => start(run, world, &Call::new("now", 0), run.now().as_millis() as u32).await?,
            Node::Chance => {
                let drawn = mix((run.random() * 1e6) as u32, run.uuid().bytes().map(u32::from).sum());
                start(run, world, &Call::new("chance", 0), drawn).await?
            }
            Node::Caught(call, remedy) => match start(run, world, call, acc).await {
                Ok(value) => value,
                Err(_) => start(run, world, remedy, acc).await?,
            },
            Node::Twins(call, count) => {
                let all = join_all((0..*count).map(|_| start(run, world, call, acc))).await;
                all.into_iter().try_fold(acc, |acc, value| Ok::<_, Failure>(mix(acc, value?)))?
            }
            Node::Late(call, node) => {
                let early = start(run, world, call, acc);
                let value = eval(run, world, node, acc).await?;
                mix(value, early.await?)
            }
            Node::LateSleep(ms, node) => {
                let early = run.sleep(sleep_name(*ms), Duration::from_millis(*ms));
                let value = eval(run, world, node, acc).await?;
                early.await;
                value
            }
            Node::Dropped(call) => {
                drop(start(run, world, call, acc));
                4
            }
            Node::Event(event, None) => run.event(&EVENTS[*event]).await,
            Node::Event(event, Some(ms)) => {
                run.event_within(&EVENTS[*event], Duration::from_millis(*ms)).await.unwrap_or(10)
            }
            Node::Child(input, timeout) => ended(&child().start_child(run, mix(acc, *input)), *timeout).await,
            Node::LateChild(input, node) => {
                let early = child().start_child(run, mix(acc, *input));
                let value = eval(run, world, node, acc).await?;
                mix(value, ended(&early, None).await)
            }
            Node::CancelledChild(input) => {
                let child = child().start_child(run, mix(acc, *input));
                child.cancel();
                ended(&child, None).await
            }
        };
        world.note(format!("{} {value}", node.kind()));
        Ok(value)
    })
}

fn sleep_name(ms: u64) -> &'static str {
    if ms.is_multiple_of(2) { "even" } else { "odd" }
}

impl Node {
    fn kind(&self) -> &'static str {
        match self {
            Node::Call(call) => call.name,
            Node::Seq(_) => "seq",
            Node::Join(_) => "join",
            Node::Unordered(_) => "unordered",
            Node::Chunks(_) => "chunks",
            Node::Race(..) => "race",
            Node::Sleep(_) => "sleep",
            Node::Now => "now",
            Node::Chance => "chance",
            Node::Caught(..) => "caught",
            Node::Twins(..) => "twins",
            Node::Late(..) => "late",
            Node::LateSleep(..) => "late sleep",
            Node::Dropped(_) => "dropped",
            Node::Event(..) => "event",
            Node::Child(..) => "child",
            Node::LateChild(..) => "late child",
            Node::CancelledChild(_) => "cancelled child",
        }
    }

    fn any(&self, is: &dyn Fn(&Node) -> bool) -> bool {
        is(self)
            || match self {
                Node::Seq(nodes) | Node::Join(nodes) | Node::Unordered(nodes) => nodes.iter().any(|node| node.any(is)),
                Node::Race(left, right) => left.any(is) || right.any(is),
                Node::Late(_, node) | Node::LateSleep(_, node) | Node::LateChild(_, node) => node.any(is),
                _ => false,
            }
    }

    /// Whether several steps may be under way at the same time.
    pub(crate) fn is_concurrent(&self) -> bool {
        self.any(&|node| {
            matches!(
                node,
                Node::Join(_)
                    | Node::Unordered(_)
                    | Node::Chunks(_)
                    | Node::Race(..)
                    | Node::Twins(..)
                    | Node::Late(..)
                    | Node::LateSleep(..)
                    | Node::LateChild(..)
            )
        })
    }

    fn has_events(&self) -> bool {
        self.any(&|node| matches!(node, Node::Event(..)))
    }

    /// Whether some wait or body may take too long or not, as time will have it.
    fn has_timeouts(&self) -> bool {
        self.any(&|node| matches!(node, Node::Event(_, Some(_)) | Node::Child(_, Some(_)))) || {
            let limited = std::cell::Cell::new(false);
            self.clone().each_call(&|call| limited.set(limited.get() || call.limit != Limit::None));
            limited.get()
        }
    }

    /// Whether what comes out depends on what ends first.
    pub(crate) fn is_order_sensitive(&self) -> bool {
        self.any(&|node| matches!(node, Node::Unordered(_) | Node::Chunks(_) | Node::Race(..)))
            || self.has_timeouts()
            // Whose event came first, and which a failing sibling left alone.
            || self.has_events() && self.is_concurrent()
    }

    /// Every node, each after its children.
    fn each(&mut self, change: &dyn Fn(&mut Node)) {
        match self {
            Node::Seq(nodes) | Node::Join(nodes) | Node::Unordered(nodes) => {
                nodes.iter_mut().for_each(|node| node.each(change));
            }
            Node::Race(left, right) => {
                left.each(change);
                right.each(change);
            }
            Node::Late(_, node) | Node::LateSleep(_, node) | Node::LateChild(_, node) => node.each(change),
            _ => {}
        }
        change(self);
    }

    fn each_call(&mut self, change: &dyn Fn(&mut Call)) {
        self.each(&|node| match node {
            Node::Call(call) | Node::Twins(call, _) | Node::Dropped(call) | Node::Late(call, _) => change(call),
            Node::Chunks(calls) => calls.iter_mut().for_each(change),
            Node::Caught(call, remedy) => {
                change(call);
                change(remedy);
            }
            _ => {}
        });
    }
}

impl Program {
    pub(crate) fn of(root: Node) -> Self {
        Self { root, failures: 0, retried: false, continues: 0 }
    }

    /// Turns retries that nobody but the process knows of into recorded ones: a crash repeats the
    /// former from the start, which shifts the time of everything after.
    pub(crate) fn without_hidden_waits(mut self) -> Self {
        self.root.each_call(&|call| {
            if call.patience == Patience::Short {
                call.patience = Patience::Long;
            }
        });
        self
    }

    /// Does without time limits and checkpoints: a body that starts again after a crash has all of its
    /// time again, and says again how far it has got.
    pub(crate) fn without_limits(mut self) -> Self {
        self.root.each_call(&|call| (call.limit, call.checkpoints) = (Limit::None, false));
        self
    }

    /// Does without handlers that stop looking at bodies under way: after a crash such a body cannot
    /// start again before the handler looks again, so that things come in another order.
    pub(crate) fn without_chunks(mut self) -> Self {
        self.root.each(&|node| {
            if let Node::Chunks(calls) = node {
                *node = Node::Unordered(calls.drain(..).map(Node::Call).collect());
            }
        });
        self
    }

    pub(crate) fn workflow(&self, world: &World) -> RegisteredWorkflow {
        let (program, world) = (Arc::new(self.clone()), world.clone());
        let version = Workflow::new("program").version("1", move |run: Run, input: u32| {
            let (program, world) = (program.clone(), world.clone());
            async move {
                world.note("begin".into());
                let value = eval(&run, &world, &program.root, input % GENERATION).await?;
                world.note("end".into());
                if input / GENERATION < program.continues {
                    let next = (input / GENERATION + 1) * GENERATION + value % GENERATION;
                    return run.continue_as_new(next).await;
                }
                if run.attempt() <= program.failures {
                    return Err(Failure::new("Final", format!("attempt {}", run.attempt())));
                }
                Ok::<_, Failure>(value)
            }
        });
        let retry = RetryStrategy::fixed(3, Duration::from_millis(40_009));
        let version = if self.retried { version.retry(retry) } else { version };
        EVENTS.iter().fold(version, |version, event| version.event(event)).register()
    }
}

fn any_call() -> impl Strategy<Value = Call> {
    let name = prop_oneof![Just("a"), Just("bb"), Just("ccc")];
    let patience = prop_oneof![3 => Just(Patience::Never), 2 => Just(Patience::Short), 2 => Just(Patience::Long)];
    let failures = prop_oneof![4 => Just(0u64), 3 => 1..3u64, 1 => Just(3u64)];
    let limit = prop_oneof![
        8 => Just(Limit::None),
        1 => prop_oneof![Just(3u64), Just(40_000)].prop_map(Limit::Whole),
        1 => prop_oneof![Just(5u64), Just(2_000)].prop_map(Limit::Heartbeat),
    ];
    let more = (0..3u8, limit, prop::bool::weighted(0.2));
    (name, 0..2u32, failures, patience, more).prop_map(
        |(name, value, failures, patience, (ticks, limit, checkpoints))| {
            // Most tasks succeed in the end; a program that always fails at once shows little.
            let failures = if patience == Patience::Never && value == 0 { 0 } else { failures };
            Call { name, value, failures, patience, ticks, limit, checkpoints }
        },
    )
}

fn any_sleep() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0u64), Just(3), Just(20_023), Just(61_000), Just(90_001)]
}

fn any_timeout() -> impl Strategy<Value = Option<u64>> {
    prop_oneof![2 => Just(None), 1 => any_sleep().prop_map(Some)]
}

fn any_node() -> impl Strategy<Value = Node> {
    let leaf = prop_oneof![
        6 => any_call().prop_map(Node::Call),
        3 => any_sleep().prop_map(Node::Sleep),
        1 => Just(Node::Now),
        1 => Just(Node::Chance),
        2 => (any_call(), any_call()).prop_map(|(call, mut remedy)| {
            remedy.failures = 0;
            Node::Caught(Call { patience: Patience::Never, failures: 1, ..call }, remedy)
        }),
        1 => (any_call(), 2..4u8).prop_map(|(call, count)| Node::Twins(call, count)),
        1 => any_call().prop_map(Node::Dropped),
        4 => (0..EVENTS.len(), any_timeout()).prop_map(|(event, timeout)| Node::Event(event, timeout)),
        2 => (0..4u32, any_timeout()).prop_map(|(input, timeout)| Node::Child(input, timeout)),
        1 => (0..4u32).prop_map(Node::CancelledChild),
    ];
    leaf.prop_recursive(3, 14, 4, |inner| {
        let boxed = inner.clone().prop_map(Box::new);
        let some = prop::collection::vec(inner, 1..4);
        prop_oneof![
            3 => some.clone().prop_map(Node::Seq),
            3 => some.clone().prop_map(Node::Join),
            2 => some.prop_map(Node::Unordered),
            1 => prop::collection::vec(any_call(), 2..4).prop_map(Node::Chunks),
            3 => (boxed.clone(), boxed.clone()).prop_map(|(left, right)| Node::Race(left, right)),
            1 => (any_call(), boxed.clone()).prop_map(|(call, node)| Node::Late(call, node)),
            1 => (any_sleep(), boxed.clone()).prop_map(|(ms, node)| Node::LateSleep(ms, node)),
            1 => (0..4u32, boxed).prop_map(|(input, node)| Node::LateChild(input, node)),
        ]
    })
}

/// Programs of up to a dozen steps or so.
pub(crate) fn any_program() -> impl Strategy<Value = Program> {
    let root = prop::collection::vec(any_node(), 1..4).prop_map(Node::Seq);
    let failures = prop_oneof![4 => Just(0u64), 1 => 1..4u64];
    let continues = prop_oneof![4 => Just(0u32), 1 => 1..3u32];
    (root, failures, any::<bool>(), continues).prop_map(|(root, failures, retried, continues)| Program {
        root,
        failures,
        retried,
        continues,
    })
}
