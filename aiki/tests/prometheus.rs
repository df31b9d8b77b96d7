//! What Prometheus gets to read.
#![cfg(all(feature = "prometheus", feature = "embedded"))]
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use aiki::prelude::*;

/// One test: a program has one recorder.
#[tokio::test]
async fn a_completed_run_shows_in_the_text() {
    let prometheus = aiki::prometheus::install().unwrap();
    assert!(aiki::prometheus::install().is_err(), "there is one already");
    let double = Workflow::new("double").version("1.0.0", |_: Run, n: u32| async move { Ok::<_, Failure>(n * 2) });
    let server = Server::in_memory().await.unwrap();
    let worker = Worker::builder(server.client()).id("w").subscriber(server.subscriber()).build().unwrap();
    worker.workflow_registry().add(&double);
    let running = tokio::spawn({
        let worker = worker.clone();
        async move { worker.start().await }
    });
    assert_eq!(double.start(&server.client(), 1).await.unwrap().wait().await.unwrap(), 2);
    worker.stop().await;
    running.await.unwrap().unwrap();
    let text = prometheus.render();
    for line in [
        r#"aiki_worker_runs_total{worker="w",outcome="completed"} 1"#,
        r#"aiki_worker_slots{worker="w"} 1"#,
        "# TYPE aiki_worker_runs_total counter",
        "# HELP aiki_worker_runs_total ",
    ] {
        assert!(text.contains(line), "{line} is missing in\n{text}");
    }
    server.close().await;
}
