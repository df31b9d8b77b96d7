//! A worker of a server elsewhere that receives through Redis Streams. Ctrl-C or SIGTERM stops it.
//!
//! ```text
//! aiki-server                                        # the server, at localhost:9090, with the same Redis
//! cargo run --example worker --features redis        # as many of these as you like
//! cargo run --example starter --features redis
//! ```

mod elsewhere;

use aiki::prelude::*;
use aiki::{SubscriberTypes, shutdown_signal};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let client_config = elsewhere::client_config()?;
    let config = WorkerConfig::from_json(
        r#"{
            "maxConcurrentWorkflowRuns": 10,
            "subscriber": { "type": "redis_streams", "claimMinIdleTimeMs": 60000, "blockTimeMs": 1000 },
            "workflowRun": { "heartbeatIntervalMs": 20000 },
            "gracefulShutdownTimeoutMs": 5000
        }"#,
    )?;
    let types = SubscriberTypes::of_client(&client_config)?;
    let client = aiki::connect(client_config).await?;
    let worker = types.worker(client, config)?.build()?;
    worker.workflow_registry().add(elsewhere::greeting()).add(elsewhere::party());

    let stopping = worker.clone();
    tokio::spawn(async move {
        shutdown_signal().await;
        stopping.stop().await;
    });
    println!("{} works", worker.id());
    println!("{}", worker.start().await?);
    Ok(())
}
