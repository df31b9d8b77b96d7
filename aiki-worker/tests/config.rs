//! The worker's configuration: what is accepted, what is refused, and what the refusal says.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::time::Duration;

use aiki_core::Client;
use aiki_server::Server;
use aiki_subscriber_memory::{MemoryQueue, MemoryQueueConfig};
use aiki_worker::{ClaimSubscriber, ConfigError, Worker, WorkerConfig};

const DOCUMENTED: &str = r#"{
    "id": "worker-1",
    "maxConcurrentWorkflowRuns": 5,
    "subscriber": { "type": "memory", "claimMinIdleTimeMs": 60000, "blockTimeMs": 1000 },
    "workflowRun": { "heartbeatIntervalMs": 30000 },
    "gracefulShutdownTimeoutMs": 5000
}"#;

async fn client() -> Client {
    Server::builder().start().await.unwrap().client()
}

fn refusal(json: &str) -> (String, String) {
    let error = WorkerConfig::from_json(json).unwrap_err();
    (error.key().unwrap_or_default().to_owned(), error.to_string())
}

#[test]
fn the_documented_configuration_is_accepted() {
    let config = WorkerConfig::from_json(DOCUMENTED).unwrap();
    assert_eq!(config.id.as_deref(), Some("worker-1"));
    assert_eq!(config.max_concurrent_workflow_runs, 5);
    assert_eq!(config.workflow_run.heartbeat_interval_ms, Some(30_000));
    assert_eq!(config.graceful_shutdown_timeout_ms, 5_000);
    let subscriber = config.subscriber.as_ref().unwrap();
    assert_eq!(subscriber.kind, "memory");
    assert_eq!(subscriber.options["blockTimeMs"], 1_000);
    let written = serde_json::to_string(&config).unwrap();
    assert_eq!(WorkerConfig::from_json(&written).unwrap(), config);
}

#[test]
fn an_empty_configuration_has_the_documented_defaults() {
    let config = WorkerConfig::from_json("{}").unwrap();
    assert_eq!(config, WorkerConfig::default());
    assert_eq!((config.max_concurrent_workflow_runs, config.graceful_shutdown_timeout_ms), (1, 5_000));
    assert!(config.id.is_none() && config.subscriber.is_none());
}

#[test]
fn toml_and_files_say_the_same_as_json() {
    let toml = r#"
        id = "worker-1"
        maxConcurrentWorkflowRuns = 5
        gracefulShutdownTimeoutMs = 5000
        [subscriber]
        type = "memory"
        claimMinIdleTimeMs = 60000
        blockTimeMs = 1000
        [workflowRun]
        heartbeatIntervalMs = 30000
    "#;
    let json = WorkerConfig::from_json(DOCUMENTED).unwrap();
    assert_eq!(WorkerConfig::from_toml(toml).unwrap(), json);
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in [("worker.toml", toml), ("worker.JSON", DOCUMENTED)] {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        assert_eq!(WorkerConfig::from_file(&path).unwrap(), json);
    }
}

#[test]
fn a_file_that_cannot_be_used_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let missing = WorkerConfig::from_file(folder.path().join("none.toml")).unwrap_err().to_string();
    assert!(missing.contains("none.toml"), "{missing}");
    let other = WorkerConfig::from_file(folder.path().join("worker.yaml")).unwrap_err().to_string();
    assert!(other.contains("worker.yaml") && other.contains(".toml"), "{other}");
    let path = folder.path().join("wrong.json");
    std::fs::write(&path, r#"{"maxConcurrentWorkflowRuns": 0}"#).unwrap();
    let wrong = WorkerConfig::from_file(&path).unwrap_err().to_string();
    assert!(wrong.contains("wrong.json") && wrong.contains("maxConcurrentWorkflowRuns"), "{wrong}");
}

#[test]
fn a_misspelt_key_is_refused_by_name() {
    for json in [r#"{"maxConcurrentRuns": 5}"#, r#"{"workflowRun": {"heartbeatMs": 5}}"#] {
        let error = WorkerConfig::from_json(json).unwrap_err();
        assert!(matches!(error, ConfigError::Format(_)));
        let text = error.to_string();
        assert!(text.contains("maxConcurrentRuns") || text.contains("heartbeatMs"), "{text}");
    }
    let text = WorkerConfig::from_toml("maxConcurrentRuns = 5").unwrap_err().to_string();
    assert!(text.contains("maxConcurrentRuns"), "{text}");
}

#[test]
fn every_value_out_of_range_is_refused_by_its_key_with_a_remedy() {
    let cases = [
        (r#"{"maxConcurrentWorkflowRuns": 0}"#, "maxConcurrentWorkflowRuns", "from 1 to"),
        (r#"{"maxConcurrentWorkflowRuns": 1000000000}"#, "maxConcurrentWorkflowRuns", "from 1 to"),
        (r#"{"workflowRun": {"heartbeatIntervalMs": 0}}"#, "workflowRun.heartbeatIntervalMs", "30000"),
        (r#"{"workflowRun": {"heartbeatIntervalMs": 999999999}}"#, "workflowRun.heartbeatIntervalMs", "30000"),
        (r#"{"gracefulShutdownTimeoutMs": 999999999}"#, "gracefulShutdownTimeoutMs", "at most"),
        (r#"{"id": ""}"#, "id", "letters"),
        (r#"{"id": "two words"}"#, "id", "letters"),
        (r#"{"subscriber": {"type": ""}}"#, "subscriber.type", "name a subscriber"),
        (
            r#"{"subscriber": {"type": "memory", "claimMinIdleTimeMs": 0}}"#,
            "subscriber.claimMinIdleTimeMs",
            "60000 is usual",
        ),
        (
            r#"{"subscriber": {"type": "memory", "claimMinIdleTimeMs": 40000},
                "workflowRun": {"heartbeatIntervalMs": 30000}}"#,
            "workflowRun.heartbeatIntervalMs",
            "20000 ms, or raise subscriber.claimMinIdleTimeMs",
        ),
    ];
    for (json, key, remedy) in cases {
        let (named, text) = refusal(json);
        assert_eq!(named, key, "{text}");
        assert!(text.contains(remedy), "{text}");
    }
}

#[tokio::test]
async fn a_heartbeat_slower_than_half_of_the_lease_is_refused() {
    let queue =
        MemoryQueue::with(MemoryQueueConfig { claim_min_idle_time: Duration::from_secs(10), ..Default::default() });
    let build = |beat: u64| {
        let client = client();
        let queue = queue.clone();
        async move {
            Worker::builder(client.await).subscriber(queue).heartbeat_interval(Duration::from_millis(beat)).build()
        }
    };
    assert_eq!(build(5_001).await.unwrap_err().key(), Some("workflowRun.heartbeatIntervalMs"));
    assert!(build(5_000).await.is_ok());
    // Nobody asked for the default of 30 s: it gives way.
    assert!(Worker::builder(client().await).subscriber(queue).build().is_ok());
    let short = ClaimSubscriber::new(&client().await).lease(Duration::from_secs(8));
    let slow = Worker::builder(client().await).subscriber(short).heartbeat_interval(Duration::from_secs(6)).build();
    assert!(slow.is_err());
}

#[tokio::test]
async fn a_named_subscriber_needs_somebody_who_makes_it() {
    let config = WorkerConfig::from_json(DOCUMENTED).unwrap();
    let error = Worker::builder(client().await).config(config.clone()).build().unwrap_err();
    assert_eq!(error.key(), Some("subscriber.type"));
    let builder = Worker::builder(client().await).config(config);
    assert_eq!(builder.unresolved_subscriber().unwrap().kind, "memory");
    let builder = builder.subscriber(MemoryQueue::new());
    assert!(builder.unresolved_subscriber().is_none());
    assert_eq!(builder.build().unwrap().id(), "worker-1");
}

#[tokio::test]
async fn a_worker_without_an_id_gets_one_of_its_own() {
    let (first, second) = (Worker::builder(client().await).build(), Worker::builder(client().await).build());
    let (first, second) = (first.unwrap(), second.unwrap());
    assert!(!first.id().is_empty());
    assert_ne!(first.id(), second.id());
    assert!(first.name().starts_with(&format!("{}:", first.id())));
}
