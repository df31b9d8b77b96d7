//! What the examples `worker` and `starter` have in common: where the server is, and two workflows.

use std::time::Duration;

use aiki::prelude::*;
use aiki::{ClientConfig, ClientConfigError};

/// The client's configuration: the file in `AIKI_CLIENT`, or the usual addresses of a machine of one's own.
pub(crate) fn client_config() -> Result<ClientConfig, ClientConfigError> {
    match std::env::var_os("AIKI_CLIENT") {
        Some(path) => ClientConfig::from_file(path),
        None => ClientConfig::from_json(r#"{"url":"localhost:9090","redis":{"host":"localhost","port":6379,"db":0}}"#),
    }
}

/// Greets, after a while.
pub(crate) fn greeting() -> WorkflowVersion<String, String, Failure> {
    let greet =
        Task::new("greet", |_: TaskContext, name: String| async move { Ok::<_, Failure>(format!("Hello {name}")) })
            .retry(RetryStrategy::exponential(3, Duration::from_secs(1)));
    Workflow::new("greeting").version("1.0.0", move |run: Run, name: String| {
        let greet = greet.clone();
        async move {
            run.sleep("think", Duration::from_millis(200)).await;
            Ok::<_, Failure>(greet.start(&run, name).await?)
        }
    })
}

/// Greets everybody at a party, each by a run of their own.
pub(crate) fn party() -> WorkflowVersion<Vec<String>, Vec<String>, Failure> {
    let greeting = greeting();
    Workflow::new("party").version("1.0.0", move |run: Run, names: Vec<String>| {
        let greeting = greeting.clone();
        async move {
            let guests: Vec<_> = names.into_iter().map(|name| greeting.start_child(&run, name)).collect();
            let mut greetings = Vec::new();
            for guest in guests {
                greetings.push(guest.wait().await?);
            }
            Ok::<_, Failure>(greetings)
        }
    })
}
