//! Workflows as data: a tree that one handler walks, and strategies that make such trees.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use aiki_core::{Failure, RegisteredWorkflow, RetryStrategy, Run, Task, TaskContext, Workflow};
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

/// A task call. Its body fails in the first `failures` attempts and then succeeds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) name: &'static str,
    pub(crate) value: u32,
    pub(crate) failures: u64,
    pub(crate) patience: Patience,
    /// How many ticks the body takes; 0 ends at once.
    pub(crate) ticks: u8,
}

impl Call {
    pub(crate) fn new(name: &'static str, value: u32) -> Self {
        Self { name, value, failures: 0, patience: Patience::Never, ticks: 0 }
    }

    pub(crate) fn ticks(mut self, ticks: u8) -> Self {
        self.ticks = ticks;
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
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Program {
    pub(crate) root: Node,
    /// The handler fails at its end in so many attempts of the run.
    pub(crate) failures: u64,
    pub(crate) retried: bool,
}

/// The input of every task: what it needs to know to behave as the call says.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Input {
    value: u32,
    failures: u64,
    ticks: u8,
}

type Eval<'a> = Pin<Box<dyn Future<Output = Result<u32, Failure>> + Send + 'a>>;

fn mix(a: u32, b: u32) -> u32 {
    (a ^ 0x9E37_79B9).wrapping_mul(31).wrapping_add(b).rotate_left(7)
}

fn task(world: &World, name: &'static str, patience: Patience) -> Task<Input, u32> {
    let world = world.clone();
    Task::new(name, move |cx: TaskContext, input: Input| {
        let work = world.begin(&cx, input.ticks);
        let attempt = cx.attempt();
        async move {
            work.await;
            if attempt <= input.failures {
                return Err(Failure::new("Broken", format!("attempt {attempt}")));
            }
            // What a task does with the time must not tell one run from another.
            Ok(if name == "now" { 7 } else { mix(name.len() as u32, input.value) })
        }
    })
    .retry(patience.strategy())
}

#[track_caller]
fn start<'a>(run: &'a Run, world: &World, call: &Call, acc: u32) -> aiki_core::context::TaskFuture<'a, u32, Failure> {
    let input = Input { value: mix(acc, call.value), failures: call.failures, ticks: call.ticks };
    task(world, call.name, call.patience).start(run, input)
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
        }
    }

    fn any(&self, is: &dyn Fn(&Node) -> bool) -> bool {
        is(self)
            || match self {
                Node::Seq(nodes) | Node::Join(nodes) | Node::Unordered(nodes) => nodes.iter().any(|node| node.any(is)),
                Node::Race(left, right) => left.any(is) || right.any(is),
                Node::Late(_, node) | Node::LateSleep(_, node) => node.any(is),
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
            )
        })
    }

    /// Whether what comes out depends on what ends first.
    pub(crate) fn is_order_sensitive(&self) -> bool {
        self.any(&|node| matches!(node, Node::Unordered(_) | Node::Chunks(_) | Node::Race(..)))
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
            Node::Late(_, node) | Node::LateSleep(_, node) => node.each(change),
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
        Self { root, failures: 0, retried: false }
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
                let value = eval(&run, &world, &program.root, input).await?;
                world.note("end".into());
                if run.attempt() <= program.failures {
                    return Err(Failure::new("Final", format!("attempt {}", run.attempt())));
                }
                Ok::<_, Failure>(value)
            }
        });
        let retry = RetryStrategy::fixed(3, Duration::from_millis(40_009));
        let version = if self.retried { version.retry(retry) } else { version };
        version.register()
    }
}

fn any_call() -> impl Strategy<Value = Call> {
    let name = prop_oneof![Just("a"), Just("bb"), Just("ccc")];
    let patience = prop_oneof![3 => Just(Patience::Never), 2 => Just(Patience::Short), 2 => Just(Patience::Long)];
    let failures = prop_oneof![4 => Just(0u64), 3 => 1..3u64, 1 => Just(3u64)];
    (name, 0..2u32, failures, patience, 0..3u8).prop_map(|(name, value, failures, patience, ticks)| {
        // Most tasks succeed in the end; a program that always fails at once shows little.
        let failures = if patience == Patience::Never && value == 0 { 0 } else { failures };
        Call { name, value, failures, patience, ticks }
    })
}

fn any_sleep() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0u64), Just(3), Just(20_023), Just(61_000), Just(90_001)]
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
            1 => (any_sleep(), boxed).prop_map(|(ms, node)| Node::LateSleep(ms, node)),
        ]
    })
}

/// Programs of up to a dozen steps or so.
pub(crate) fn any_program() -> impl Strategy<Value = Program> {
    let root = prop::collection::vec(any_node(), 1..4).prop_map(Node::Seq);
    let failures = prop_oneof![4 => Just(0u64), 1 => 1..4u64];
    (root, failures, any::<bool>()).prop_map(|(root, failures, retried)| Program { root, failures, retried })
}
