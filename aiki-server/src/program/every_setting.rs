//! Every setting, from every place where it can be given.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex};

use clap::Parser;
use serde_json::Value;

use super::args::Cli;
use super::settings::{NAMES, Settings, flags_of, from, variable};

/// A setting with a value for the flag, the variable and the file, each as given and as it is shown when in force.
type Row = (&'static str, [(&'static str, &'static str); 3]);

const ROWS: &[Row] = &[
    ("body_limit", [("5MB", "5000000"), ("6MB", "6000000"), ("7MB", "7000000")]),
    ("cors_origin", [("https://a", "https://a"), ("https://b", "https://b"), ("https://c", "https://c")]),
    ("database", [("memory", "memory"), ("sqlite:///b", "sqlite:///b"), ("postgres://u:p@h/c", "postgres://***@h/c")]),
    ("disconnect_grace", [("1s", "1s"), ("0s", "0ns"), ("3ms", "3ms")]),
    ("drain_time", [("1s", "1s"), ("2s", "2s"), ("3s", "3s")]),
    ("history_limit", [("1", "1"), ("2", "2"), ("3", "3")]),
    ("listen", [("127.0.0.1:1", "127.0.0.1:1"), ("[::1]:2", "[::1]:2"), ("127.0.0.1:3", "127.0.0.1:3")]),
    // There are only two.
    ("log_format", [("json", "json"), ("text", "text"), ("json", "json")]),
    ("log_level", [("error", "error"), ("warn", "warn"), ("aiki_server=debug", "aiki_server=debug")]),
    ("max_connections", [("1", "1"), ("2", "2"), ("3", "3")]),
    ("payload_limit", [("1KB", "1000"), ("2KB", "2000"), ("3KB", "3000")]),
    (
        "redis",
        [("redis://a", "redis://a:6379/0"), ("rediss://b", "rediss://b:6379/0"), ("redis://c:1/2", "redis://c:1/2")],
    ),
    ("redis_ca_file", [("/a.pem", "/a.pem"), ("/b.pem", "/b.pem"), ("/c.pem", "/c.pem")]),
    ("retention", [("1d", "86400s"), ("2d", "172800s"), ("3s", "3s")]),
];

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The log line that says what is in force.
fn logged(settings: &Settings) -> serde_json::Map<String, Value> {
    let lines = Lines::default();
    let writer = lines.clone();
    let json = tracing_subscriber::fmt().json().flatten_event(true).with_writer(move || writer.clone()).finish();
    tracing::subscriber::with_default(json, || settings.log());
    let bytes = lines.0.lock().unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

/// What is in force of this setting, when the flag, the variable and the file give these values.
fn in_force(name: &str, [flag, env, file]: [Option<&str>; 3]) -> String {
    let mut words = vec!["aiki-server".to_owned()];
    let mut more = String::new();
    if name == "redis_ca_file" {
        more.push_str("redis = 'rediss://cache'\n");
    }
    words.extend(flag.map(|value| format!("--{}={value}", name.replace('_', "-"))));
    let toml = tempfile::NamedTempFile::new().unwrap();
    let line = file.map(|value| format!("{name} = '{value}'\n")).unwrap_or_default();
    std::fs::write(toml.path(), more + &line).unwrap();
    words.extend(["--config".to_owned(), toml.path().to_str().unwrap().to_owned()]);
    let flags = Cli::try_parse_from(words).unwrap().serve;
    let env = |asked: &str| env.filter(|_| asked == variable(name)).map(str::to_owned);
    let settings = from(flags_of(&flags), flags.place.config.as_deref(), &env).unwrap();
    match &logged(&settings)[name] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[test]
fn what_is_in_force_is_logged_with_every_setting() {
    let line = logged(&Settings::default());
    let besides = ["timestamp", "level", "message", "target"];
    let shown: BTreeSet<_> = line.keys().map(String::as_str).filter(|key| !besides.contains(key)).collect();
    assert_eq!(shown, NAMES.iter().copied().collect());
}

#[test]
fn every_setting_takes_effect_from_everywhere_and_the_nearer_place_wins() {
    assert_eq!(ROWS.iter().map(|(name, _)| *name).collect::<Vec<_>>(), NAMES, "a setting has no row here");
    for (name, values) in ROWS {
        let default = in_force(name, [None; 3]);
        // Flag, variable and file in every combination.
        for places in 1..8_usize {
            let given: [bool; 3] = std::array::from_fn(|place| places & (1 << place) != 0);
            let nearest = given.iter().position(|given| *given).unwrap();
            let told = in_force(name, std::array::from_fn(|place| given[place].then_some(values[place].0)));
            assert_eq!(told, values[nearest].1, "{name}, given by flag, variable, file: {given:?}");
        }
        assert!(values.iter().any(|(_, shown)| *shown != default), "{name} has its default all the time");
    }
}

#[test]
fn several_origins_are_given_with_several_flags_or_one_list() {
    let flags = Cli::try_parse_from(["aiki-server", "--cors-origin=http://a", "--cors-origin=http://b"]).unwrap().serve;
    let settings = from(flags_of(&flags), None, &|_| None).unwrap();
    assert_eq!(logged(&settings)["cors_origin"], "http://a,http://b");
}
