//! From a configuration to a worker: what is wrong is named, and the remedy helps.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use aiki::prelude::*;

/// What a program says about this configuration.
async fn refusal(json: &str) -> String {
    let server = Server::in_memory().await.unwrap();
    let config = match WorkerConfig::from_json(json) {
        Ok(config) => config,
        Err(error) => return error.to_string(),
    };
    let built = server.subscriber_types().worker(server.client(), config).and_then(|builder| builder.build());
    server.close().await;
    built.map(|_| "accepted".to_owned()).unwrap_or_else(|error| error.to_string())
}

#[tokio::test]
async fn the_documented_configuration_makes_a_worker() {
    let documented = r#"{"id":"worker-1","maxConcurrentWorkflowRuns":5,
        "subscriber":{"type":"memory","claimMinIdleTimeMs":60000,"blockTimeMs":1000},
        "workflowRun":{"heartbeatIntervalMs":30000},"gracefulShutdownTimeoutMs":5000}"#;
    assert_eq!(refusal(documented).await, "accepted");
    assert_eq!(refusal(r#"{"subscriber":{"type":"http"}}"#).await, "accepted");
}

#[tokio::test]
async fn an_option_that_nobody_reads_is_refused_with_what_holds_instead() {
    let longer = r#"{"subscriber":{"type":"memory","claimMinIdleTimeMs":300000},
        "workflowRun":{"heartbeatIntervalMs":100000}}"#;
    let text = refusal(longer).await;
    assert!(text.contains("claimMinIdleTimeMs") && text.contains("it is 60000 here"), "{text}");
    let text = refusal(r#"{"subscriber":{"type":"memory","foo":1}}"#).await;
    assert!(text.contains("`foo`") && text.contains("leave it out"), "{text}");
    let text = refusal(r#"{"subscriber":{"type":"http","claimMinIdleTimeMs":300000}}"#).await;
    assert!(text.contains("`claimMinIdleTimeMs`"), "{text}");
}

#[tokio::test]
async fn an_unknown_type_is_answered_with_those_that_there_are() {
    let text = refusal(r#"{"subscriber":{"type":"redis"}}"#).await;
    assert!(text.contains("http, memory") && text.contains("SubscriberTypes::with"), "{text}");
}

#[test]
fn a_value_of_the_wrong_type_is_named_by_its_key() {
    let text = WorkerConfig::from_json(r#"{"maxConcurrentWorkflowRuns":"5"}"#).unwrap_err().to_string();
    assert!(text.contains("`maxConcurrentWorkflowRuns`"), "{text}");
    let text = WorkerConfig::from_json(r#"{"workflowRun":{"heartbeatIntervalMs":-1}}"#).unwrap_err().to_string();
    assert!(text.contains("`workflowRun.heartbeatIntervalMs`"), "{text}");
    let text = WorkerConfig::from_toml("maxConcurrentWorkflowRuns = \"5\"").unwrap_err().to_string();
    assert!(text.contains("`maxConcurrentWorkflowRuns`"), "{text}");
    assert!(WorkerConfig::from_json(r#"{"id":"a"} {"id":"b"}"#).is_err(), "something behind the end");
}
