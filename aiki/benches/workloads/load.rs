//! The two workloads.

use std::path::Path;
use std::time::{Duration, Instant};

use aiki::prelude::*;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::runtime::Runtime;

use crate::{print, usage};

const IN_FLIGHT: usize = 64;
type Steps = WorkflowVersion<(u64, u64), u64, Failure>;

struct Rig {
    server: Server,
    worker: Worker,
    running: tokio::task::JoinHandle<()>,
    workflow: Steps,
}

async fn rig(database: &Path) -> Rig {
    let step = Task::new("step", |_: TaskContext, (run, step): (u64, u64)| async move {
        Ok::<_, Failure>(format!("{run:0128}{step:0128}"))
    });
    let workflow = Workflow::new("steps").version("1.0.0", move |run: Run, (number, steps): (u64, u64)| {
        let step = step.clone();
        async move {
            let mut bytes = 0;
            for at in 0..steps {
                bytes += step.start(&run, (number, at)).await?.len() as u64;
            }
            Ok::<_, Failure>(bytes)
        }
    });
    let server = Server::embedded(database).await.expect("the server starts");
    let worker = Worker::builder(server.client())
        .max_concurrent_workflow_runs(IN_FLIGHT)
        .subscriber(server.subscriber())
        .build()
        .expect("the worker is well configured");
    worker.workflow_registry().add(&workflow);
    let started = worker.clone();
    let running = tokio::spawn(async move {
        started.start().await.expect("the worker runs");
    });
    Rig { server, worker, running, workflow }
}

impl Rig {
    async fn one(&self, number: u64, steps: u64) -> Duration {
        let began = Instant::now();
        let handle = self.workflow.start(&self.server.client(), (number, steps)).await.expect("the run starts");
        let bytes = handle.wait().await.expect("the run completes");
        assert_eq!(bytes, steps * 256);
        began.elapsed()
    }

    async fn end(self) {
        self.worker.stop().await;
        self.running.await.expect("the worker ends");
        self.server.close().await;
    }
}

pub(crate) fn throughput(runtime: &Runtime, directory: &Path, steps: usize, runs: usize, repeats: usize) {
    let (mut rates, mut cpu) = (Vec::new(), Vec::new());
    for repeat in 0..repeats {
        let database = directory.join(format!("w{steps}-{repeat}.db"));
        runtime.block_on(async {
            let rig = rig(&database).await;
            let (began, cpu_before) = (Instant::now(), usage::cpu_seconds());
            let mut waiting = FuturesUnordered::new();
            let mut started = 0;
            while started < runs || !waiting.is_empty() {
                while started < runs && waiting.len() < IN_FLIGHT {
                    waiting.push(rig.one(started as u64, steps as u64));
                    started += 1;
                }
                waiting.next().await;
            }
            rates.push(runs as f64 / began.elapsed().as_secs_f64());
            cpu.push((usage::cpu_seconds() - cpu_before) / runs as f64 * 1e3);
            drop(waiting);
            rig.end().await;
        });
    }
    print("throughput", "runs/s", 0, rates);
    print("processor time per 1,000 runs", "s", 3, cpu);
}

pub(crate) fn idle_latency(runtime: &Runtime, directory: &Path, steps: usize, runs: usize) {
    let database = directory.join(format!("idle-{steps}.db"));
    runtime.block_on(async {
        let rig = rig(&database).await;
        let mut times = Vec::new();
        for number in 0..runs {
            times.push(rig.one(number as u64, steps as u64).await.as_secs_f64() * 1e3);
        }
        rig.end().await;
        times.sort_by(f64::total_cmp);
        let at = |percent: usize| times[(times.len() - 1) * percent / 100];
        println!("  start to result, one at a time     p50 {:.2} ms, p99 {:.2} ms ({runs} runs)", at(50), at(99));
    });
}
