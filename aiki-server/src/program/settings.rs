//! What the server is configured with.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use aiki_subscriber_redis::RedisUrl;
use figment::providers::{Format, Toml};
use figment::{Figment, Provider};
use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};

use super::args::{DatabaseFlags, HealthcheckFlags, ServeFlags};
use super::database::Database;
use super::exit::Failure;
use super::logs::LogFormat;
use super::origin::Texts;
use super::units::{Size, Span};

/// The names of all settings, as in the file.
pub(crate) const NAMES: &[&str] = &[
    "body_limit",
    "cors_origin",
    "database",
    "disconnect_grace",
    "drain_time",
    "history_limit",
    "listen",
    "log_format",
    "log_level",
    "max_connections",
    "payload_limit",
    "redis",
    "redis_ca_file",
    "retention",
];

/// The effective configuration.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub(crate) struct Settings {
    #[serde(deserialize_with = "from_text")]
    pub(crate) listen: SocketAddr,
    #[serde(deserialize_with = "from_text")]
    pub(crate) database: Database,
    #[serde(deserialize_with = "some_from_text")]
    pub(crate) redis: Option<RedisUrl>,
    #[serde(deserialize_with = "some_from_text")]
    pub(crate) redis_ca_file: Option<PathBuf>,
    #[serde(deserialize_with = "from_text")]
    pub(crate) payload_limit: Size,
    #[serde(deserialize_with = "from_text")]
    pub(crate) body_limit: Size,
    #[serde(deserialize_with = "from_text")]
    pub(crate) history_limit: u32,
    #[serde(deserialize_with = "some_from_text")]
    pub(crate) retention: Option<Span>,
    #[serde(deserialize_with = "from_text")]
    pub(crate) max_connections: usize,
    pub(crate) cors_origin: Origins,
    #[serde(deserialize_with = "from_text")]
    pub(crate) log_format: LogFormat,
    #[serde(deserialize_with = "from_text")]
    pub(crate) log_level: String,
    #[serde(deserialize_with = "from_text")]
    pub(crate) disconnect_grace: Span,
    #[serde(deserialize_with = "from_text")]
    pub(crate) drain_time: Span,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 9090)),
            database: Database::by_default(std::env::var("STATE_DIRECTORY").ok().as_deref()),
            redis: None,
            redis_ca_file: None,
            payload_limit: Size(1_000_000),
            body_limit: Size(4_000_000),
            history_limit: 50_000,
            retention: None,
            max_connections: 10_000,
            cors_origin: Origins(vec!["http://localhost:9851".into()]),
            log_format: LogFormat::Text,
            log_level: "info".into(),
            disconnect_grace: Span(std::time::Duration::from_millis(400)),
            drain_time: Span(std::time::Duration::from_secs(20)),
        }
    }
}

/// Origins of pages: a list, or a text with commas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Origins(pub(crate) Vec<String>);

/// Anything that a file may hold, as the text that a flag would have.
struct AsText;

impl Visitor<'_> for AsText {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text or a number")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<String, E> {
        Ok(text.to_owned())
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<String, E> {
        Ok(number.to_string())
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<String, E> {
        Ok(number.to_string())
    }
}

fn from_text<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: FromStr<Err: fmt::Display>,
    D: Deserializer<'de>,
{
    // The value is not repeated: it may be a secret.
    deserializer.deserialize_any(AsText)?.parse().map_err(de::Error::custom)
}

fn some_from_text<'de, T, D>(deserializer: D) -> Result<Option<T>, D::Error>
where
    T: FromStr<Err: fmt::Display>,
    D: Deserializer<'de>,
{
    from_text(deserializer).map(Some)
}

impl<'de> Deserialize<'de> for Origins {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Given {
            Text(String),
            List(Vec<String>),
        }
        let given = match Given::deserialize(deserializer)? {
            Given::Text(text) => text.split(',').map(|origin| origin.trim().to_owned()).collect(),
            Given::List(list) => list,
        };
        let origins: Vec<String> = given.into_iter().filter(|origin| !origin.is_empty()).collect();
        for origin in &origins {
            let host = origin.split_once("://").map(|(_, host)| host).unwrap_or_default();
            if host.is_empty() || host.contains('/') {
                return Err(de::Error::custom("expected origins such as https://ops.example.com, without a path"));
            }
        }
        Ok(Self(origins))
    }
}

fn flags_of_place(flags: &DatabaseFlags) -> Texts {
    let mut texts = Texts::new("flag");
    texts.set("database", flags.database.clone());
    texts
}

pub(super) fn flags_of(flags: &ServeFlags) -> Texts {
    let mut texts = flags_of_place(&flags.place);
    texts.set("listen", flags.listen.clone());
    texts.set("redis", flags.redis.clone());
    texts.set("redis_ca_file", flags.redis_ca_file.clone());
    texts.set("payload_limit", flags.payload_limit.clone());
    texts.set("body_limit", flags.body_limit.clone());
    texts.set("history_limit", flags.history_limit.clone());
    texts.set("retention", flags.retention.clone());
    texts.set("max_connections", flags.max_connections.clone());
    texts.set("cors_origin", Some(flags.cors_origin.join(",")).filter(|_| !flags.cors_origin.is_empty()));
    texts.set("log_format", flags.log_format.clone());
    texts.set("log_level", flags.log_level.clone());
    texts.set("disconnect_grace", flags.disconnect_grace.clone());
    texts.set("drain_time", flags.drain_time.clone());
    texts
}

/// The configuration of a server.
pub(crate) fn load(flags: &ServeFlags) -> Result<Settings, Failure> {
    from(flags_of(flags), flags.place.config.as_deref(), &|name| std::env::var(name).ok())
}

/// The database of a server.
pub(crate) fn load_place(flags: &DatabaseFlags) -> Result<Database, Failure> {
    let settings = from(flags_of_place(flags), flags.config.as_deref(), &|name| std::env::var(name).ok())?;
    Ok(settings.database)
}

/// The address of a server.
pub(crate) fn load_address(flags: &HealthcheckFlags) -> Result<SocketAddr, Failure> {
    let mut texts = Texts::new("flag");
    texts.set("listen", flags.listen.clone());
    Ok(from(texts, flags.config.as_deref(), &|name| std::env::var(name).ok())?.listen)
}

pub(super) fn variable(name: &str) -> String {
    format!("AIKI_{}", name.to_uppercase())
}

pub(super) fn from(
    flags: Texts,
    file: Option<&Path>,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Settings, Failure> {
    // An empty variable is as good as none: that is how files of variables leave something out.
    let given = |name: &str| env(name).filter(|value| !value.is_empty());
    let mut variables = Texts::new("variable");
    for name in NAMES {
        variables.set(name, given(&variable(name)));
    }
    let file = file.map(Path::to_owned).or_else(|| given("AIKI_CONFIG").map(PathBuf::from));
    let mut figment = Figment::new();
    if let Some(path) = &file {
        figment = figment.merge(read(path)?);
    }
    let settings = figment.merge(&variables).merge(&flags).extract::<Settings>();
    let settings = settings.map_err(|error| {
        let name = error.path.first().map(String::as_str).unwrap_or_default();
        let origin = match &file {
            _ if flags.has(name) => format!("--{}", name.replace('_', "-")),
            _ if variables.has(name) => variable(name),
            Some(path) => format!("{name} in {}", path.display()),
            None => name.to_owned(),
        };
        Failure::usage(format!("{origin}: {}", error.kind))
    })?;
    settings.check()
}

/// The configuration of a file with this text, and of nothing else.
pub(super) fn of_text(text: &str) -> Result<Settings, Failure> {
    let file = parse(text).map_err(Failure::usage)?;
    let settings = Figment::new().merge(file).extract::<Settings>();
    settings.map_err(|error| Failure::usage(error.kind))?.check()
}

fn read(path: &Path) -> Result<impl Provider + use<>, Failure> {
    let wrong = |what: String| Failure::usage(format!("{}: {what}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| wrong(format!("the file cannot be read: {error}")))?;
    parse(&text).map_err(wrong)
}

/// The settings of a file, when it has no others.
fn parse(text: &str) -> Result<impl Provider + use<>, String> {
    let toml = Toml::string(text);
    let data = toml.data().map_err(|error| {
        // Line and cause. What stands between them repeats the line, which may hold a secret.
        let told = error.kind.to_string();
        let mut lines = told.lines().map(str::trim).filter(|line| !line.is_empty());
        let (first, last) = (lines.next().unwrap_or_default().to_owned(), lines.next_back().unwrap_or_default());
        format!("{first} {last}")
    })?;
    for name in data.values().flat_map(|dict| dict.keys()) {
        if !NAMES.contains(&name.as_str()) {
            return Err(format!("there is no setting `{name}`; the settings are {}", NAMES.join(", ")));
        }
    }
    Ok(toml)
}

impl Settings {
    /// What one value by itself does not show.
    fn check(mut self) -> Result<Self, Failure> {
        if let Some(file) = &self.redis_ca_file {
            let redis = self.redis.take().filter(|url| url.to_string().starts_with("rediss://"));
            let redis = redis.ok_or_else(|| Failure::usage("redis_ca_file is given, but no redis with rediss://"))?;
            self.redis = Some(redis.certificate_authority(file));
        }
        if self.payload_limit.0 > self.body_limit.0 {
            let (payload, body) = (self.payload_limit, self.body_limit);
            let told = format!(
                "payload_limit is {payload} bytes and body_limit {body}: a body holds payloads, let it be larger"
            );
            return Err(Failure::usage(told));
        }
        for (name, zero) in [
            ("payload_limit", self.payload_limit.0 == 0),
            ("history_limit", self.history_limit == 0),
            ("max_connections", self.max_connections == 0),
            ("retention", self.retention == Some(Span(std::time::Duration::ZERO))),
        ] {
            if zero {
                return Err(Failure::usage(format!("{name} is 0: nothing could be done, give more")));
            }
        }
        // Beyond, tokio's semaphores end.
        self.max_connections = self.max_connections.min(1_000_000);
        Ok(self)
    }

    /// Logs what is in force, without secrets.
    pub(crate) fn log(&self) {
        let shown = |url: &Option<RedisUrl>| url.as_ref().map_or_else(|| "none".to_owned(), ToString::to_string);
        tracing::info!(
            listen = %self.listen,
            database = %self.database,
            redis = shown(&self.redis),
            redis_ca_file = self.redis_ca_file.as_ref().map_or_else(|| "none".to_owned(), |file| file.display().to_string()),
            payload_limit = self.payload_limit.0,
            body_limit = self.body_limit.0,
            history_limit = self.history_limit,
            retention = self.retention.map_or_else(|| "for ever".to_owned(), |keep| keep.to_string()),
            max_connections = self.max_connections,
            cors_origin = self.cors_origin.0.join(","),
            log_format = %self.log_format,
            log_level = self.log_level,
            disconnect_grace = %self.disconnect_grace,
            drain_time = %self.drain_time,
            "the configuration in force"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(values: &[(&'static str, &str)]) -> Texts {
        let mut texts = Texts::new("flag");
        values.iter().for_each(|(name, value)| texts.set(name, Some((*value).to_owned())));
        texts
    }

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    fn none(_: &str) -> Option<String> {
        None
    }

    #[test]
    fn a_flag_wins_over_a_variable_and_that_over_the_file() {
        let file = file(
            "listen = '127.0.0.1:1'\ndrain_time = '1s'\nhistory_limit = 1\ncors_origin = ['http://a', 'http://b']",
        );
        let env = |name: &str| match name {
            "AIKI_LISTEN" => Some("127.0.0.1:2".to_owned()),
            "AIKI_DRAIN_TIME" => Some("2s".to_owned()),
            "AIKI_REDIS" => Some(String::new()),
            _ => None,
        };
        let settings = from(flags(&[("listen", "127.0.0.1:3")]), Some(file.path()), &env).unwrap();
        assert_eq!(settings.listen.port(), 3);
        assert_eq!(settings.drain_time.0.as_secs(), 2);
        assert_eq!((settings.history_limit, settings.payload_limit.0), (1, 1_000_000));
        assert_eq!(settings.cors_origin.0, ["http://a", "http://b"]);
        assert_eq!(settings.redis, None, "an empty variable is none");
    }

    #[test]
    fn the_file_may_be_named_by_a_variable() {
        let file = file("history_limit = 7");
        let path = file.path().to_str().unwrap().to_owned();
        let env = move |name: &str| (name == "AIKI_CONFIG").then(|| path.clone());
        assert_eq!(from(flags(&[]), None, &env).unwrap().history_limit, 7);
    }

    #[test]
    fn a_bad_value_is_told_with_its_origin() {
        let told = |result: Result<Settings, Failure>| {
            let failure = result.unwrap_err();
            assert_eq!(failure.code(), 2);
            failure.to_string()
        };
        let text = told(from(flags(&[("drain_time", "30")]), None, &none));
        assert!(text.starts_with("--drain-time: expected a time"), "{text}");
        let text = told(from(flags(&[]), None, &|name| (name == "AIKI_LISTEN").then(|| "nowhere".into())));
        assert!(text.starts_with("AIKI_LISTEN: "), "{text}");
        let bad = file("payload_limit = true");
        let text = told(from(flags(&[]), Some(bad.path()), &none));
        assert!(text.starts_with("payload_limit in /") && text.contains("a text or a number"), "{text}");
        let unknown = file("listn = '127.0.0.1:1'");
        let text = told(from(flags(&[]), Some(unknown.path()), &none));
        assert!(text.contains("there is no setting `listn`") && text.contains("listen"), "{text}");
        let text = told(from(flags(&[]), Some(Path::new("/nowhere/aiki.toml")), &none));
        assert!(text.starts_with("/nowhere/aiki.toml: the file cannot be read"), "{text}");
    }

    #[test]
    fn no_error_repeats_a_secret() {
        let secret = "redis://worker:hunter2@";
        let broken = file("redis = 'redis://worker:hunter2@host\n");
        let errors = [
            from(flags(&[("redis", secret)]), None, &none),
            from(flags(&[("database", "mysql://u:hunter2@h")]), None, &none),
            from(flags(&[]), Some(broken.path()), &none),
        ];
        for error in errors {
            let text = error.unwrap_err().to_string();
            assert!(!text.contains("hunter2"), "{text}");
        }
    }

    #[test]
    fn values_that_contradict_each_other_are_refused() {
        let wrong: &[&[(&'static str, &str)]] = &[
            &[("payload_limit", "8MB")],
            &[("payload_limit", "0")],
            &[("max_connections", "0")],
            &[("redis_ca_file", "/ca.pem")],
            &[("redis_ca_file", "/ca.pem"), ("redis", "redis://h")],
            &[("cors_origin", "ops.example.com")],
        ];
        for values in wrong {
            assert!(from(flags(values), None, &none).is_err(), "{values:?}");
        }
        let fine = from(flags(&[("redis_ca_file", "/ca.pem"), ("redis", "rediss://h")]), None, &none).unwrap();
        assert!(fine.redis.is_some());
    }
}
