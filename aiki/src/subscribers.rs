//! From a subscriber's name in a configuration file to the subscriber.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aiki_core::{Client, SubscriberFactory};
use aiki_worker::{ConfigError, SubscriberConfig, Worker, WorkerBuilder, WorkerConfig};

/// The type that needs a Redis.
pub(crate) const REDIS_STREAMS: &str = "redis_streams";

type Make = Arc<dyn Fn(&SubscriberConfig) -> Result<Arc<dyn SubscriberFactory>, ConfigError> + Send + Sync>;

/// The subscriber types that a configuration may name. `http` (straight from the server) is always
/// among them; the embedded server adds `memory`; `redis_streams` needs the feature `redis` and the address
/// of a Redis; add your own with [`with`](Self::with).
///
/// ```
/// use aiki::prelude::*;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), aiki::Error> {
/// let server = Server::in_memory().await?;
/// let config = WorkerConfig::from_json(r#"{"id":"worker-1","subscriber":{"type":"memory"}}"#)?;
/// let worker = server.subscriber_types().worker(server.client(), config)?.build()?;
/// assert!(worker.id().starts_with("worker-1"));
/// # Ok(()) }
/// ```
#[derive(Clone, Default)]
pub struct SubscriberTypes {
    types: BTreeMap<String, Make>,
}

impl SubscriberTypes {
    /// Only `http`.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a type, or replaces the one of this name.
    pub fn with(
        mut self,
        name: impl Into<String>,
        make: impl Fn(&SubscriberConfig) -> Result<Arc<dyn SubscriberFactory>, ConfigError> + Send + Sync + 'static,
    ) -> Self {
        self.types.insert(name.into(), Arc::new(make));
        self
    }

    /// A worker's builder with the subscriber that its configuration names.
    ///
    /// # Errors
    /// [`ConfigError`] names `subscriber.type` and the types that there are.
    pub fn worker(&self, client: Client, mut config: WorkerConfig) -> Result<WorkerBuilder, ConfigError> {
        config.validate()?;
        let Some(subscriber) = config.subscriber.take() else { return Ok(Worker::builder(client).config(config)) };
        if subscriber.kind == "http" {
            fixed_options(&subscriber, &[])?;
            return Ok(Worker::builder(client).config(config));
        }
        match self.types.get(&subscriber.kind) {
            Some(make) => Ok(Worker::builder(client).config(config).subscriber(make(&subscriber)?)),
            None if subscriber.kind == REDIS_STREAMS => Err(no_redis()),
            None => Err(ConfigError::Value {
                key: "subscriber.type",
                problem: format!("is `{}`, which this program does not have", subscriber.kind),
                remedy: format!("use one of: http{}; add your own with `SubscriberTypes::with`", self.names()),
            }),
        }
    }

    fn names(&self) -> String {
        self.types.keys().map(|name| format!(", {name}")).collect()
    }
}

impl fmt::Debug for SubscriberTypes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entry(&"http").entries(self.types.keys()).finish()
    }
}

fn no_redis() -> ConfigError {
    let remedy = match cfg!(feature = "redis") {
        true => "add `redis` with host, port, password and db, or with a URL, to the client's configuration",
        false => "build `aiki` with its feature `redis`, and configure `redis` for the client",
    };
    let problem = format!("is not configured, but `subscriber.type` is `{REDIS_STREAMS}`");
    ConfigError::Value { key: "redis", problem, remedy: remedy.to_owned() }
}

/// Accepts only options that say what is so anyway: what nobody reads must not look as if it worked.
pub(crate) fn fixed_options(subscriber: &SubscriberConfig, fixed: &[(&str, Duration)]) -> Result<(), ConfigError> {
    for (name, value) in &subscriber.options {
        let known = fixed.iter().find(|(key, _)| key == name).map(|(_, time)| time.as_millis());
        let remedy = match known {
            Some(ms) if value.as_u64().map(u128::from) == Some(ms) => continue,
            Some(ms) => format!("leave it out: it is {ms} here, for all workers of the queue"),
            None => format!("leave it out: the type `{}` does not know it", subscriber.kind),
        };
        return Err(ConfigError::Value { key: "subscriber", problem: format!("has `{name}` = {value}"), remedy });
    }
    Ok(())
}
