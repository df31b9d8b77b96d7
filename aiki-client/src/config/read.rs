//! Reading a configuration from a text or a file.

use serde_path_to_error::{Path, deserialize};

use super::{ClientConfig, ConfigError};

/// Keys whose values are never repeated.
const SECRETS: [&str; 2] = ["apiKey", "password"];

impl ClientConfig {
    /// Reads JSON.
    ///
    /// ```
    /// use aiki_client::ClientConfig;
    ///
    /// let config = ClientConfig::from_json(r#"{ "url": "localhost:9090", "redis": { "host": "localhost" } }"#)?;
    /// assert_eq!(config.url, "localhost:9090");
    /// # Ok::<(), aiki_client::ConfigError>(())
    /// ```
    ///
    /// # Errors
    /// [`ConfigError::Format`] names the key that is wrong.
    pub fn from_json(text: &str) -> Result<Self, ConfigError> {
        let mut reader = serde_json::Deserializer::from_str(text);
        let config = deserialize(&mut reader).map_err(|error| named(error.path(), &error.inner().to_string()))?;
        // A configuration is one value: something behind it is a slip.
        reader.end().map_err(|error| ConfigError::Format(error.to_string()))?;
        Ok(config)
    }

    /// Reads TOML, with the same keys.
    ///
    /// # Errors
    /// [`ConfigError::Format`] names the key that is wrong.
    pub fn from_toml(text: &str) -> Result<Self, ConfigError> {
        let reader = toml::Deserializer::parse(text).map_err(|error| {
            let line = error.span().map_or(1, |span| text[..span.start].lines().count().max(1));
            ConfigError::Format(format!("line {line}: {}", error.message()))
        })?;
        deserialize(reader).map_err(|error| named(error.path(), error.inner().message()))
    }

    /// Reads a file: `.json` or `.toml`.
    ///
    /// # Errors
    /// [`ConfigError::File`], with the file's name in it.
    pub fn from_file(path: impl AsRef<std::path::Path>) -> Result<Self, ConfigError> {
        let path = path.as_ref();
        let in_file = |reason: String| ConfigError::File { path: path.to_owned(), reason };
        let extension = path.extension().map(|extension| extension.to_ascii_lowercase());
        let parse = match extension.as_ref().and_then(|extension| extension.to_str()) {
            Some("json") => Self::from_json,
            Some("toml") => Self::from_toml,
            _ => return Err(in_file("its name must end in .json or .toml".to_owned())),
        };
        let text = std::fs::read_to_string(path).map_err(|error| {
            in_file(format!("it cannot be read ({error}): give the path of a file that this program may read"))
        })?;
        parse(&text).map_err(|error| match error {
            ConfigError::Format(reason) => in_file(reason),
            other => other,
        })
    }
}

/// What serde said, with the key that it said it about. A text that might quote a secret is left out.
fn named(path: &Path, said: &str) -> ConfigError {
    let key = path.to_string();
    let last = key.rsplit('.').next().unwrap_or_default();
    let said = if SECRETS.contains(&last) { "it is no text" } else { said };
    // At the top there is no key: serde then names it itself.
    match key == "." {
        true => ConfigError::Format(said.to_owned()),
        false => ConfigError::Format(format!("`{key}`: {said}; give it a value of that type")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_cannot_be_used_is_named_with_what_to_do_also_under_debug() {
        let folder = tempfile::tempdir().unwrap();
        let of = |name: &str| ClientConfig::from_file(folder.path().join(name));
        let absent = format!("{:?}", of("client.json").unwrap_err());
        assert!(absent.contains("client.json: it cannot be read (No such file"), "{absent}");
        assert!(absent.contains("give the path of a file"), "{absent}");
        std::fs::write(folder.path().join("client.toml"), "url = 7").unwrap();
        let wrong = of("client.toml").unwrap_err().to_string();
        assert!(wrong.contains("client.toml: `url`: "), "{wrong}");
        let unknown = of("client.yaml").unwrap_err().to_string();
        assert!(unknown.contains("must end in .json or .toml"), "{unknown}");
    }

    #[test]
    fn both_formats_have_the_same_keys_and_repeat_no_secret() {
        let json = r#"{"url":"host:1","apiKey":"k","redis":{"host":"h","db":2},"retryForMs":5}"#;
        let toml = "url = \"host:1\"\napiKey = \"k\"\nretryForMs = 5\n[redis]\nhost = \"h\"\ndb = 2\n";
        assert_eq!(ClientConfig::from_json(json), ClientConfig::from_toml(toml));
        assert!(ClientConfig::from_json(json).is_ok());
        let secret = ClientConfig::from_toml("url = \"a\"\napiKey = 77123").unwrap_err().to_string();
        assert!(secret.contains("`apiKey`: it is no text") && !secret.contains("77123"), "{secret}");
        let open = ClientConfig::from_toml("url = \"a\"\napiKey = \"k3y").unwrap_err().to_string();
        assert!(open.contains("line 2: ") && !open.contains("k3y"), "{open}");
        let two = ClientConfig::from_json(r#"{"url":"a"} {"url":"b"}"#).unwrap_err().to_string();
        assert!(two.contains("trailing characters"), "{two}");
    }
}
