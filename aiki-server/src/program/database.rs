//! Where runs and keys are kept.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use crate::keys::{KeyStore, MemoryKeys, SqliteKeys};
use crate::{Server, ServerBuilder};

use super::exit::Failure;
use super::secret::redacted;

/// The file when nothing else is said.
const DEFAULT_FILE: &str = "aiki.db";

/// A database by its address.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Database {
    /// Gone with the process.
    Memory,
    /// A SQLite file.
    Sqlite(PathBuf),
    /// A Postgres database, by its URL.
    Postgres(String),
}

impl Database {
    /// A file in the directory that systemd gives to the service, else in the working directory.
    pub(crate) fn by_default(state_directory: Option<&str>) -> Self {
        // It may be a list; the first is the service's own.
        let folder = state_directory.and_then(|list| list.split(':').next()).filter(|folder| !folder.is_empty());
        Self::Sqlite(folder.map(PathBuf::from).unwrap_or_default().join(DEFAULT_FILE))
    }

    /// A server over it.
    pub(crate) fn builder(&self) -> Result<ServerBuilder, Failure> {
        match self {
            Self::Memory => Ok(Server::builder()),
            Self::Sqlite(path) => Ok(Server::builder().sqlite(path)),
            #[cfg(feature = "postgres")]
            Self::Postgres(url) => Ok(Server::builder().postgres(url)),
            #[cfg(not(feature = "postgres"))]
            Self::Postgres(_) => Err(no_postgres()),
        }
    }

    /// The keys in it. Blocks.
    pub(crate) fn keys(&self) -> Result<Arc<dyn KeyStore>, Failure> {
        Ok(match self {
            Self::Memory => Arc::new(MemoryKeys::default()),
            Self::Sqlite(path) => Arc::new(SqliteKeys::open(path)?),
            #[cfg(feature = "postgres")]
            Self::Postgres(url) => Arc::new(crate::keys::PostgresKeys::open(url)?),
            #[cfg(not(feature = "postgres"))]
            Self::Postgres(_) => return Err(no_postgres()),
        })
    }
}

#[cfg(not(feature = "postgres"))]
fn no_postgres() -> Failure {
    Failure::usage("this build of aiki-server has no Postgres store: build it with the feature `postgres`")
}

impl FromStr for Database {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "memory" {
            return Ok(Self::Memory);
        }
        match text.split_once("://") {
            Some(("sqlite", "")) => Err("sqlite:// lacks the path of a file, as in sqlite:///var/lib/aiki/aiki.db"),
            Some(("sqlite", path)) => Ok(Self::Sqlite(path.into())),
            Some(("postgres" | "postgresql", rest)) if !rest.is_empty() => Ok(Self::Postgres(text.to_owned())),
            _ => Err("expected memory, sqlite://PATH or postgres://USER:PASSWORD@HOST/NAME"),
        }
    }
}

impl fmt::Display for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory => f.write_str("memory"),
            Self::Sqlite(path) => write!(f, "sqlite://{}", path.display()),
            Self::Postgres(url) => f.write_str(&redacted(url)),
        }
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_names_its_store() {
        let parse = |text: &str| text.parse::<Database>();
        assert_eq!(parse("memory"), Ok(Database::Memory));
        assert_eq!(parse("sqlite:///var/aiki.db"), Ok(Database::Sqlite("/var/aiki.db".into())));
        assert_eq!(parse("sqlite://here.db"), Ok(Database::Sqlite("here.db".into())));
        assert!(matches!(parse("postgresql://h/n"), Ok(Database::Postgres(_))));
        for wrong in ["", "aiki.db", "sqlite://", "postgres://", "mysql://h/n"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_default_is_a_file_of_the_service() {
        assert_eq!(Database::by_default(None).to_string(), "sqlite://aiki.db");
        assert_eq!(Database::by_default(Some("")).to_string(), "sqlite://aiki.db");
        assert_eq!(Database::by_default(Some("/var/lib/aiki:/x")).to_string(), "sqlite:///var/lib/aiki/aiki.db");
    }
}
