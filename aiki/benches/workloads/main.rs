//! W1 (one task per run) and W5 (five tasks in sequence, outputs of about 256 bytes), embedded, on
//! SQLite with `synchronous=FULL`, beside the limits of the machine measured in the same process.
//!
//! ```text
//! cargo bench -p aiki --bench workloads            # about a minute
//! cargo bench -p aiki --bench workloads -- --quick # a few seconds, for a first look
//! ```

#![allow(clippy::expect_used, reason = "a benchmark that cannot run stops")]

mod limits;
mod load;
mod usage;

use std::path::PathBuf;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let quick = arguments.iter().any(|argument| argument == "--quick");
    // `cargo test --benches` runs this program too: then it only has to start.
    if arguments.iter().any(|argument| argument == "--test") {
        return;
    }
    let (repeats, runs, sequential) = if quick { (3, 4_000, 200) } else { (5, 20_000, 1_000) };
    let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("workloads");
    let _ = std::fs::remove_dir_all(&directory);
    std::fs::create_dir_all(&directory).expect("the directory for the databases can be made");

    println!("raw limits of this machine, median of {repeats} (min to max)");
    limits::fdatasync(&directory, repeats);
    limits::sqlite(&directory, repeats, 1, 1_000);
    limits::sqlite(&directory, repeats, 64, 40_000);

    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime can be made");
    for steps in [1, 5] {
        let runs = runs / steps;
        println!("\nW{steps}: {runs} runs, 64 in flight, median of {repeats} (min to max)");
        load::throughput(&runtime, &directory, steps, runs, repeats);
        load::idle_latency(&runtime, &directory, steps, sequential);
    }
    println!("\npeak memory of this process: {} MB", usage::peak_memory_mb());
    let _ = std::fs::remove_dir_all(&directory);
}

/// Prints median, minimum and maximum of one figure.
fn print(name: &str, unit: &str, digits: usize, mut values: Vec<f64>) {
    values.sort_by(f64::total_cmp);
    let (min, max) = (values[0], values[values.len() - 1]);
    println!("  {name:<34} {:>12.digits$} {unit:<10} ({min:.digits$} to {max:.digits$})", values[values.len() / 2]);
}
