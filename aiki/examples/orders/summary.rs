//! The progress bar and the table at the end.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use aiki::prelude::*;
use indicatif::{ProgressBar, ProgressStyle};

use crate::input::Input;
use crate::ledger::Audit;

/// How one order ended.
pub(crate) enum Ended {
    Completed {
        run: RunId,
        earlier: bool,
        took: Option<Duration>,
        retries: u64,
        cents: u64,
    },
    Failed {
        run: RunId,
        earlier: bool,
        took: Option<Duration>,
        retries: u64,
        reason: String,
    },
    /// The id belongs to an order with another content.
    Conflict,
    Trouble(String),
}

pub(crate) struct Summary {
    bar: ProgressBar,
    skipped: usize,
    completed: usize,
    earlier: usize,
    failed: BTreeMap<String, usize>,
    conflicts: Vec<String>,
    trouble: Vec<String>,
    retries: u64,
    cents: u64,
    took: Vec<Duration>,
    runs: Vec<RunId>,
    elapsed: Duration,
}

/// Writes what is logged above the progress bar.
pub(crate) struct AboveBar(ProgressBar);

impl Write for AboveBar {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.suspend(|| io::stderr().write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

impl Summary {
    pub(crate) fn new(input: &Input) -> Self {
        let bar = ProgressBar::new(input.orders.len() as u64);
        if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len} orders  {per_sec}  {msg}") {
            bar.set_style(style);
        }
        Self {
            bar,
            skipped: input.skipped.len(),
            completed: 0,
            earlier: 0,
            failed: BTreeMap::new(),
            conflicts: Vec::new(),
            trouble: Vec::new(),
            retries: 0,
            cents: 0,
            took: Vec::new(),
            runs: Vec::new(),
            elapsed: Duration::ZERO,
        }
    }

    /// Warnings from now on, such as that Redis is away and what is done meanwhile.
    pub(crate) fn log(&self) {
        let bar = self.bar.clone();
        let log = tracing_subscriber::fmt().with_max_level(tracing::Level::WARN).without_time().with_target(false);
        let log = log.with_ansi(io::stderr().is_terminal());
        log.with_writer(move || AboveBar(bar.clone())).init();
    }

    pub(crate) fn add(&mut self, (order, ended): (String, Ended)) {
        self.bar.inc(1);
        match ended {
            Ended::Completed { run, earlier, took, retries, cents } => {
                self.completed += 1;
                self.cents += cents;
                self.note(run, earlier, took, retries);
            }
            Ended::Failed { run, earlier, took, retries, reason } => {
                *self.failed.entry(reason).or_default() += 1;
                self.note(run, earlier, took, retries);
            }
            Ended::Conflict => self.conflicts.push(order),
            Ended::Trouble(text) => self.trouble.push(format!("{order}: {text}")),
        }
    }

    fn note(&mut self, run: RunId, earlier: bool, took: Option<Duration>, retries: u64) {
        self.runs.push(run);
        self.earlier += usize::from(earlier);
        self.took.extend(took);
        self.retries += retries;
    }

    pub(crate) fn finish(&mut self, elapsed: Duration) {
        self.elapsed = elapsed;
        self.took.sort();
        self.bar.finish_and_clear();
    }

    pub(crate) fn runs(&self) -> impl Iterator<Item = RunId> + '_ {
        self.runs.iter().copied()
    }

    /// Nothing went wrong that the file of orders did not ask for.
    pub(crate) fn is_sound(&self) -> bool {
        self.trouble.is_empty()
    }

    fn percentile(&self, percent: usize) -> String {
        match self.took.len() {
            0 => "-".into(),
            len => format!("{:.0} ms", self.took[(len - 1) * percent / 100].as_secs_f64() * 1e3),
        }
    }

    pub(crate) fn print(&self, audit: &Audit) {
        let failed: usize = self.failed.values().sum();
        let here = self.completed + failed - self.earlier;
        let rate = here as f64 / self.elapsed.as_secs_f64().max(1e-9);
        println!("completed              {:>8}   {} cents charged", self.completed, self.cents);
        println!("failed                 {failed:>8}");
        for (reason, count) in &self.failed {
            println!("  {reason:<22} {count:>6}");
        }
        println!("finished earlier       {:>8}   not run again", self.earlier);
        println!("skipped lines          {:>8}   not an order", self.skipped);
        println!("conflicting orders     {:>8}   {}", self.conflicts.len(), self.conflicts.join(", "));
        println!("task retries           {:>8}", self.retries);
        println!("charges in the ledger  {:>8}", audit.charges);
        println!(
            "  repeated by a crash  {:>8}   before they were recorded, under the same key",
            audit.repeated_by_crash
        );
        println!("  after being recorded {:>8}   must be 0", audit.charged_after_recorded);
        println!("throughput             {rate:>8.0}   runs/s");
        println!("start to end           p50 {}, p99 {}", self.percentile(50), self.percentile(99));
        for trouble in &self.trouble {
            println!("trouble: {trouble}");
        }
    }
}
