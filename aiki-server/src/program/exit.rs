//! Why the program ends, and with which code.

use std::fmt;

use crate::ServerStartError;
use crate::keys::KeyStoreError;

/// As `--help` lists them.
pub(crate) const TABLE: &str = "\
Exit codes:
  0    stopped after SIGTERM or SIGINT, or the command did what it was asked
  1    failed while it ran; healthcheck: not healthy
  2    a flag, an AIKI_ variable or the configuration file is wrong
  3    the address cannot be listened on, for example because it is taken
  4    the database cannot be opened or reached
  5    another server has the database file open
  6    the database is from a newer version, or not Aiki's
  7    the address is not loopback and there are no API keys
  8    runs, workers: the server of --url does not answer, or cannot work for now
  9    runs, workers: the server does not accept the key, or the key may not do that
  10   runs: there is no such run, or (cancel) it has ended
  130  a second SIGINT, 143 a second SIGTERM: stopped at once";

/// Why the program does not go on.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    text: String,
}

impl Failure {
    fn new(code: u8, text: impl fmt::Display) -> Self {
        // One line, whatever a library has to say.
        let text =
            text.to_string().lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ");
        Self { code, text }
    }

    pub(crate) fn broken(text: impl fmt::Display) -> Self {
        Self::new(1, text)
    }

    pub(crate) fn usage(text: impl fmt::Display) -> Self {
        Self::new(2, text)
    }

    pub(crate) fn listen(text: impl fmt::Display) -> Self {
        Self::new(3, text)
    }

    pub(crate) fn database(text: impl fmt::Display) -> Self {
        Self::new(4, text)
    }

    pub(crate) fn no_keys(text: impl fmt::Display) -> Self {
        Self::new(7, text)
    }

    pub(crate) fn no_server(text: impl fmt::Display) -> Self {
        Self::new(8, text)
    }

    pub(crate) fn refused(text: impl fmt::Display) -> Self {
        Self::new(9, text)
    }

    pub(crate) fn no_run(text: impl fmt::Display) -> Self {
        Self::new(10, text)
    }

    /// The exit code.
    pub(crate) fn code(&self) -> u8 {
        self.code
    }
}

impl From<ServerStartError> for Failure {
    fn from(error: ServerStartError) -> Self {
        let code = match &error {
            ServerStartError::Locked { .. } => 5,
            ServerStartError::NewerSchema { .. }
            | ServerStartError::NotADatabase { .. }
            | ServerStartError::PostgresForeign { .. }
            | ServerStartError::PostgresNewerSchema { .. } => 6,
            ServerStartError::NotAPath { .. } | ServerStartError::PostgresUrl { .. } => 2,
            ServerStartError::Thread(_) => 1,
            _ => 4,
        };
        Self::new(code, error)
    }
}

impl From<KeyStoreError> for Failure {
    fn from(error: KeyStoreError) -> Self {
        match error {
            KeyStoreError::Address(_) => Self::usage(error),
            KeyStoreError::Open(_) | KeyStoreError::Failed(_) => Self::database(error),
            KeyStoreError::Foreign(_) | KeyStoreError::Damaged(_) => Self::new(6, error),
            KeyStoreError::Taken(_) => Self::broken(error),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_one_line() {
        assert_eq!(Failure::broken("first\n\n   second\nthird").to_string(), "first second third");
    }

    #[test]
    fn every_code_is_explained() {
        let path = std::path::PathBuf::from("aiki.db");
        let locked = Failure::from(ServerStartError::Locked { path: path.clone() });
        let newer = Failure::from(ServerStartError::NewerSchema { path, found: 9, known: 3 });
        let made: [fn(&'static str) -> Failure; 7] = [
            Failure::usage,
            Failure::listen,
            Failure::database,
            Failure::no_keys,
            Failure::no_server,
            Failure::refused,
            Failure::no_run,
        ];
        for failure in made.map(|make| make("")).iter().chain([&locked, &newer]) {
            assert!(TABLE.contains(&format!("\n  {} ", failure.code())), "{}", failure.code());
        }
        assert_eq!((locked.code(), newer.code()), (5, 6));
    }

    #[test]
    fn a_postgres_that_cannot_be_had_ends_it_as_a_file_would() {
        let place = || "db:5432/aiki".to_owned();
        let (schema, reason) = (|| "aiki".to_owned(), || "why".to_owned());
        let code = |error: ServerStartError| Failure::from(error).code();
        assert_eq!(code(ServerStartError::PostgresUrl { reason: reason() }), 2);
        assert_eq!(Failure::from(KeyStoreError::Address(reason())).code(), 2);
        assert_eq!(code(ServerStartError::PostgresForeign { place: place(), schema: schema() }), 6);
        let newer = ServerStartError::PostgresNewerSchema { place: place(), schema: schema(), found: 9, known: 1 };
        assert_eq!(code(newer), 6);
        assert_eq!(code(ServerStartError::PostgresUnreachable { place: place(), reason: reason() }), 4);
        assert_eq!(code(ServerStartError::PostgresLogin { place: place(), reason: reason() }), 4);
        assert_eq!(code(ServerStartError::PostgresNoDatabase { place: place() }), 4);
        assert_eq!(code(ServerStartError::PostgresTls { reason: reason() }), 4);
    }
}
