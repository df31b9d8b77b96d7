//! What a worker can be told, in a program or in a file.

mod check;
mod error;

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub(crate) use check::{DEFAULT_HEARTBEAT, effective_heartbeat, heartbeat_against_lease};
pub use error::ConfigError;

/// A worker's configuration, with the documented camelCase keys.
///
/// ```
/// use aiki_worker::WorkerConfig;
///
/// let config = WorkerConfig::from_json(
///     r#"{
///         "id": "worker-1",
///         "maxConcurrentWorkflowRuns": 5,
///         "subscriber": { "type": "memory", "claimMinIdleTimeMs": 60000, "blockTimeMs": 1000 },
///         "workflowRun": { "heartbeatIntervalMs": 30000 },
///         "gracefulShutdownTimeoutMs": 5000
///     }"#,
/// )?;
/// assert_eq!(config.max_concurrent_workflow_runs, 5);
/// # Ok::<(), aiki_worker::ConfigError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct WorkerConfig {
    /// The worker's name. Generated when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// How many runs are executed at the same time. Default 1.
    pub max_concurrent_workflow_runs: usize,
    /// Through what runs are received. Absent: straight from the server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subscriber: Option<SubscriberConfig>,
    /// About the runs that are being executed.
    pub workflow_run: WorkflowRunConfig,
    /// How long a stop waits for runs to end by themselves, in milliseconds. Default 5000.
    pub graceful_shutdown_timeout_ms: u64,
}

/// Settings of the runs that are being executed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct WorkflowRunConfig {
    /// How often claims are prolonged, in milliseconds. Default 30000. When given, at most half of the
    /// subscriber's `claimMinIdleTimeMs`. A third of that is used when this is longer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heartbeat_interval_ms: Option<u64>,
}

/// Which subscriber, and its own settings: data for whoever knows the type.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SubscriberConfig {
    /// The type, such as `memory`.
    #[serde(rename = "type")]
    pub kind: String,
    /// All other keys of the section.
    #[serde(flatten)]
    pub options: Map<String, Value>,
}

impl Default for WorkerConfig {
    fn default() -> Self {
        Self {
            id: None,
            max_concurrent_workflow_runs: 1,
            subscriber: None,
            workflow_run: WorkflowRunConfig::default(),
            graceful_shutdown_timeout_ms: 5_000,
        }
    }
}

impl WorkerConfig {
    /// Reads and checks JSON.
    ///
    /// # Errors
    /// [`ConfigError`] names the key that is wrong and what to do.
    pub fn from_json(text: &str) -> Result<Self, ConfigError> {
        let config: Self = serde_path_to_error::deserialize(&mut serde_json::Deserializer::from_str(text))
            .map_err(|error| ConfigError::format(error.path(), error.inner()))?;
        // A configuration is one value: something behind it is a slip.
        serde_json::from_str::<serde::de::IgnoredAny>(text).map_err(|error| ConfigError::Format(error.to_string()))?;
        config.validate()?;
        Ok(config)
    }

    /// Reads and checks TOML.
    ///
    /// # Errors
    /// [`ConfigError`] names the key that is wrong and what to do.
    pub fn from_toml(text: &str) -> Result<Self, ConfigError> {
        let config: Self = toml::Deserializer::parse(text)
            .map_err(|error| ConfigError::Format(error.to_string()))
            .and_then(|reader| {
                serde_path_to_error::deserialize(reader)
                    .map_err(|error| ConfigError::format(error.path(), error.inner()))
            })?;
        config.validate()?;
        Ok(config)
    }

    /// Reads and checks a file: `.json` or `.toml`.
    ///
    /// # Errors
    /// [`ConfigError`], with the file's name in it.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, ConfigError> {
        let path = path.as_ref();
        let read = || std::fs::read_to_string(path);
        let in_file = |error: ConfigError| ConfigError::File { path: path.to_owned(), reason: error.in_file() };
        let extension = path.extension().map(|extension| extension.to_ascii_lowercase());
        let parse = match extension.as_ref().and_then(|extension| extension.to_str()) {
            Some("json") => Self::from_json,
            Some("toml") => Self::from_toml,
            _ => {
                let reason = "its name must end in .json or .toml".to_owned();
                return Err(ConfigError::File { path: path.to_owned(), reason });
            }
        };
        let text = read().map_err(|error| ConfigError::File {
            path: path.to_owned(),
            reason: format!("it cannot be read ({error}): give the path of a file that this program may read"),
        })?;
        parse(&text).map_err(in_file)
    }

    /// Checks all values, and the heartbeat against the `claimMinIdleTimeMs` of the subscriber's
    /// section if there is one.
    ///
    /// # Errors
    /// [`ConfigError::Value`].
    pub fn validate(&self) -> Result<(), ConfigError> {
        check::values(self)
    }

    /// The heartbeat that was asked for, if one was.
    pub(crate) fn heartbeat_interval(&self) -> Option<Duration> {
        self.workflow_run.heartbeat_interval_ms.map(Duration::from_millis)
    }

    pub(crate) fn graceful_shutdown_timeout(&self) -> Duration {
        Duration::from_millis(self.graceful_shutdown_timeout_ms)
    }
}
