//! Starting a run.

use std::num::NonZeroU64;
use std::time::Duration;

use aiki_core::Payload;
use aiki_core::name::{Name, WorkflowKey};
use aiki_core::retry::RetryStrategy;
use aiki_core::run::plan::CreateRun;
use aiki_core::run::{Reference, RunOptions};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use super::common::Hashes;
use super::request::request;
use crate::read::{At, Fields, Invalid, Read, Str1};

request! {
    /// `workflowRun.createV1`.
    CreateV1 {
        /// The workflow's name.
        need name: Str1 = "name",
        /// The workflow's version.
        need version: Str1 = "versionId",
        /// The input, raw.
        may input: Payload = "input",
        /// The hash of the input.
        need hash: Hashes = "inputHash",
        /// The run that starts this one as its child.
        may parent: ParentRun = "parent",
        /// Options of the start.
        may options: StartOptions = "options",
    }

    /// The run that starts another one as its child.
    ParentRun {
        /// Its id.
        need id: Str1 = "workflowRunId",
        /// The revision at which its worker saw it.
        need expected_revision: u64 = "expectedRevision",
    }

    /// Options of a start.
    StartOptions {
        /// How the run is retried.
        may retry: RetryStrategy = "retry",
        /// The pool of workers that may take it.
        may pool: Name = "pool",
        /// The caller's own id for it.
        may reference: Reference = "reference",
        /// When it is ready.
        may trigger: Trigger = "trigger",
    }
}

/// When a run is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// At once.
    Immediate,
    /// After so long.
    Delayed(Duration),
}

impl Read for Trigger {
    fn read(raw: &RawValue, at: &At<'_>) -> Result<Self, Invalid> {
        let fields = Fields::open(raw, at)?;
        match fields.need::<String>("type")?.as_str() {
            "immediate" => Ok(Self::Immediate),
            "delayed" if fields.raw("delayMs").is_some() => {
                let ms: NonZeroU64 = fields.need("delayMs")?;
                Ok(Self::Delayed(Duration::from_millis(ms.get())))
            }
            "delayed" => fields.need::<Units>("delay").map(|units| Self::Delayed(units.0)),
            _ => Err(fields.wrong("type", "one of immediate, delayed")),
        }
    }
}

impl Serialize for Trigger {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        match self {
            Trigger::Immediate => map.serialize_entry("type", "immediate")?,
            Trigger::Delayed(delay) => {
                map.serialize_entry("type", "delayed")?;
                map.serialize_entry("delayMs", &aiki_core::time::ceil_millis(*delay).max(1))?;
            }
        }
        map.end()
    }
}

/// A duration as an object of its units.
struct Units(Duration);

impl Read for Units {
    fn read(raw: &RawValue, at: &At<'_>) -> Result<Self, Invalid> {
        const UNITS: [(&str, u64); 5] =
            [("days", 86_400_000), ("hours", 3_600_000), ("minutes", 60_000), ("seconds", 1000), ("milliseconds", 1)];
        let fields = Fields::open(raw, at)?;
        let mut total = 0_u64;
        for (unit, ms) in UNITS {
            let count = fields.may::<NonZeroU64>(unit)?.map_or(0, NonZeroU64::get);
            total = total.saturating_add(count.saturating_mul(ms));
        }
        match total {
            0 => Err(Invalid::new(at, "an object with days, hours, minutes, seconds or milliseconds")),
            ms => Ok(Self(Duration::from_millis(ms))),
        }
    }
}

impl CreateV1 {
    /// What is to be created, without the parent.
    pub fn into_request(self) -> CreateRun {
        let workflow = WorkflowKey::user(Name::from(self.name), Name::from(self.version));
        let (hash, deprecated) = self.hash.into_parts();
        let mut request = CreateRun { deprecated_hashes: deprecated, ..CreateRun::new(workflow, self.input, hash) };
        if let Some(options) = self.options {
            request.options = Some(RunOptions { retry: options.retry, pool: options.pool });
            request.reference = options.reference;
            if let Some(Trigger::Delayed(delay)) = options.trigger {
                request.delay = delay;
            }
        }
        request
    }

    /// The call that asks for this.
    pub fn of(request: CreateRun, parent: Option<ParentRun>) -> Option<Self> {
        let text = |hash: &aiki_core::InputHash| Str1::new(hash.as_str());
        let CreateRun { workflow, input, input_hash, deprecated_hashes, reference, options, delay, .. } = request;
        let deprecated: Vec<_> = deprecated_hashes.iter().filter_map(text).collect();
        let trigger = (!delay.is_zero()).then_some(Trigger::Delayed(delay));
        let given = options.is_some() || reference.is_some() || trigger.is_some();
        let RunOptions { retry, pool } = options.unwrap_or_default();
        Some(Self {
            name: Str1::new(workflow.name.as_str())?,
            version: Str1::new(workflow.version.as_str())?,
            input,
            hash: Hashes { value: text(&input_hash)?, deprecated: Some(deprecated).filter(|list| !list.is_empty()) },
            parent,
            options: given.then_some(StartOptions { retry, pool, reference, trigger }),
        })
    }
}
