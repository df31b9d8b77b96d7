//! What reads from outside, as functions of bytes that must not panic. `fuzz/` feeds them without an end;
//! the tests feed them the corpus and some thousand changes of it.

use aiki_client::ClientConfig;
use aiki_core::Timestamp;
use aiki_core::schedule::{Occurrences, ScheduleSpec};
use aiki_schedule::Calendar;
use aiki_server::program::read_configuration;
use aiki_subscriber_redis::{RedisUrl, read_entry};
use aiki_wire::depth::DEFAULT_DEPTH_LIMIT;
use aiki_wire::envelope::open_request;
use aiki_wire::read::by_serde;
use aiki_worker::WorkerConfig;

use crate::requests::REQUESTS;

/// One target: its name, which is also that of its folder in the corpus, and what it feeds.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: [Target; 4] = [("message", message), ("body", body), ("cron", cron), ("config", config)];

/// An entry of a stream: its parts one a line, the first is the id, an empty line is nil.
pub fn message(bytes: &[u8]) {
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let id = lines.next().unwrap_or_default();
    let parts: Vec<_> = lines.map(|line| (!line.is_empty()).then(|| line.to_vec())).collect();
    let parts = (!parts.is_empty()).then_some(parts);
    let large = bytes.len() > 8_192;
    if let Some(Ok(run)) = read_entry(id, parts) {
        assert!(!large && run.to_string().len() == 26, "a run of a message that is no message");
    }
}

/// The body of a request, of each procedure.
pub fn body(bytes: &[u8]) {
    let Ok(Some(input)) = open_request(bytes, DEFAULT_DEPTH_LIMIT) else { return };
    // Whatever comes through is JSON.
    assert!(serde_json::from_str::<serde::de::IgnoredAny>(input.get()).is_ok(), "{}", input.get());
    for (procedure, read) in REQUESTS {
        if let Err(error) = read(Some(&input)) {
            let told = error.to_string();
            assert!(
                !told.is_empty() && told.lines().count() == 1,
                "{procedure}: an error of no line or many: {told:?}"
            );
        }
    }
    let _ = by_serde::<serde_json::Value>(Some(&input));
}

/// A cron expression, and in the next line a time zone.
pub fn cron(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (expression, zone) = text.split_once('\n').map_or((text, None), |(expression, zone)| (expression, Some(zone)));
    let mut spec = ScheduleSpec::cron(expression);
    if let Some(zone) = zone {
        spec = spec.timezone(zone);
    }
    let Ok(calendar) = Calendar::new(&spec) else { return };
    let mut at = Timestamp::from_millis(1_772_323_200_000);
    for _ in 0..3 {
        let Some(next) = calendar.next(at) else { return };
        assert!(next > at, "`{expression}` does not go forward at {at}");
        at = next;
    }
}

/// Configurations of workers, clients and servers, and addresses of Redis.
pub fn config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    for config in [WorkerConfig::from_json(text), WorkerConfig::from_toml(text)] {
        if let Err(error) = config {
            assert!(!error.to_string().is_empty(), "an error without a text");
        }
    }
    if let Err(told) = read_configuration(text) {
        assert!(told.lines().count() == 1, "an error of no line or many: {told:?}");
    }
    if let Ok(config) = serde_json::from_str::<ClientConfig>(text) {
        let _ = config.base_url();
    }
    let _ = text.trim().parse::<RedisUrl>();
}
