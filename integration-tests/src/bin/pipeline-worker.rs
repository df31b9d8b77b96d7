//! Starts `RUNS` runs of the pipeline on the embedded server in `DIRECTORY` and works until all have
//! ended. May be killed at any moment and started again.

use std::path::PathBuf;
use std::process::ExitCode;

use aiki::prelude::*;
use integration_tests::ledger::Ledger;
use integration_tests::pipeline;

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let directory = PathBuf::from(arguments.next().ok_or("usage: pipeline-worker DIRECTORY RUNS")?);
    let runs: u64 = arguments.next().ok_or("usage: pipeline-worker DIRECTORY RUNS")?.parse()?;
    let pipeline = pipeline::define(Ledger::in_directory(&directory));

    let server = Server::embedded(directory.join("aiki.db")).await?;
    let client = server.client();
    let worker =
        Worker::builder(client.clone()).max_concurrent_workflow_runs(8).subscriber(server.subscriber()).build()?;
    worker.workflow_registry().add(&pipeline);
    let running = worker.clone();
    let running = tokio::spawn(async move { running.start().await });

    let mut handles = Vec::new();
    for number in 0..runs {
        handles.push(pipeline.start(&client, number).reference_id(format!("run-{number}")).await?);
    }
    for handle in handles {
        handle.wait().await?;
    }
    worker.stop().await;
    running.await??;
    server.close().await;
    Ok(())
}
