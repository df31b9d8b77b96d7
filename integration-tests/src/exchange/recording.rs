//! Recorded exchanges as they lie in the files.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::halves;

/// How the credentials of the recorded server's valid key were made unreadable.
const REDACTED: &str = "aiki_00000000_REDACTED";

/// One file: what a proxy saw of one scenario.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Recording {
    /// Name of the scenario, the file's name without its ending.
    pub scenario: String,
    /// When the recording began, ms since the epoch; the times of exchanges count from here.
    pub recorded_at_epoch_ms: u64,
    /// In the order in which the proxy saw the requests.
    pub exchanges: Vec<Exchange>,
}

/// One request with its answer.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Exchange {
    /// Place in the recording; folded polls leave gaps.
    pub seq: u64,
    /// Who sent it: `worker-a`, `client`, `raw`...
    pub origin: String,
    /// When it was sent, ms since the recording began.
    pub sent_at_ms: u64,
    /// When it was answered, ms since the recording began.
    pub received_at_ms: u64,
    /// The HTTP method.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Lower-case names.
    #[serde(default)]
    pub request_headers: BTreeMap<String, String>,
    /// The body, when it was JSON; JSON null is not the same as none.
    #[serde(default, deserialize_with = "present")]
    pub request_body: Option<Value>,
    /// The body, when it was not JSON.
    #[serde(default)]
    pub request_text: Option<String>,
    /// The HTTP status.
    pub status: u16,
    /// Lower-case names.
    #[serde(default)]
    pub response_headers: BTreeMap<String, String>,
    /// The answer, when it was JSON.
    #[serde(default, deserialize_with = "present")]
    pub response_body: Option<Value>,
    /// The answer, when it was not JSON.
    #[serde(default)]
    pub response_text: Option<String>,
    /// When the last poll that was folded into this one was sent, ms.
    #[serde(default)]
    pub last_repeat_sent_at_ms: Option<u64>,
}

fn present<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(from).map(Some)
}

impl Recording {
    /// Reads one file.
    ///
    /// # Errors
    /// A text that names the file, when it cannot be read or has another form.
    pub fn load(path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        serde_json::from_str(&halves::hide(&text))
            .map_err(|error| format!("{}: not a recording of exchanges: {error}", path.display()))
    }

    /// Reads every `*.json` of a directory, by name. One that cannot be read keeps nobody from the others: it comes
    /// back as the text of [`load`](Self::load).
    ///
    /// # Errors
    /// When the directory cannot be read or holds no recording.
    pub fn load_each(directory: &Path) -> Result<Vec<Result<Self, String>>, String> {
        let entries = std::fs::read_dir(directory).map_err(|error| format!("{}: {error}", directory.display()))?;
        let mut paths: Vec<_> = entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect();
        paths.retain(|path| path.extension().is_some_and(|ending| ending == "json"));
        paths.sort();
        if paths.is_empty() {
            return Err(format!("{} holds no *.json: give the directory of the recordings", directory.display()));
        }
        Ok(paths.iter().map(|path| Self::load(path)).collect())
    }

    /// As [`load_each`](Self::load_each), when all of them are needed.
    ///
    /// # Errors
    /// As there, and the first one that cannot be read.
    pub fn load_all(directory: &Path) -> Result<Vec<Self>, String> {
        Self::load_each(directory)?.into_iter().collect()
    }

    /// Whether any request was sent with a key that the recorded server knew.
    #[must_use]
    pub fn needs_key(&self) -> bool {
        self.exchanges.iter().any(|exchange| exchange.authorization().is_some_and(|value| value.contains(REDACTED)))
    }

    /// Whether any request carried credentials at all, valid or not.
    #[must_use]
    pub fn speaks_of_keys(&self) -> bool {
        self.exchanges.iter().any(|exchange| exchange.authorization().is_some())
    }
}

impl Exchange {
    /// `group/procedure` of an RPC path, else nothing.
    #[must_use]
    pub fn procedure(&self) -> &str {
        let path = self.path.split('?').next().unwrap_or_default();
        path.strip_prefix("/api/").map_or("", |name| name.trim_end_matches('/'))
    }

    /// The input inside the request's envelope.
    #[must_use]
    pub fn input(&self) -> Option<&Value> {
        self.request_body.as_ref()?.get("json")
    }

    /// The output inside the answer's envelope; nothing when it is an error.
    #[must_use]
    pub fn output(&self) -> Option<&Value> {
        if self.status == 200 { self.response_body.as_ref()?.get("json") } else { None }
    }

    /// The error's `code`.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        self.response_body.as_ref()?.pointer("/json/code")?.as_str()
    }

    /// Whether the two were under way at the same time, so that their order is a guess.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.sent_at_ms <= other.received_at_ms && other.sent_at_ms <= self.received_at_ms
    }

    fn authorization(&self) -> Option<&str> {
        self.request_headers.get("authorization").map(String::as_str)
    }

    /// The credentials to send: a key that was valid becomes `key`, an invalid one stays as it was.
    #[must_use]
    pub fn credentials(&self, key: Option<&str>) -> Option<String> {
        let recorded = self.authorization()?;
        Some(key.map_or_else(|| recorded.to_owned(), |key| recorded.replace(REDACTED, key)))
    }
}
