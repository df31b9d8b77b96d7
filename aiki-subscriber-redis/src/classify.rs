//! What an error asks for. Redis says it in the first word.

use aiki_core::SubscriberError;
use fred::error::{Error, ErrorKind};

/// What to do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// Streams or groups are gone: make them again.
    GroupLost,
    /// Redis cannot do it now; the connection is sound. Wait.
    Busy,
    /// This is no longer the server to talk to: connect anew.
    WrongServer,
    /// Redis does not let us. Waiting helps only if somebody changes that.
    Refused,
    /// A key holds something else than a stream: leave it alone.
    WrongType,
    /// A script is not cached.
    NoScript,
    /// Another node of the cluster has it. The text says which.
    Moved,
    /// The connection is lost, or what was asked got no answer.
    Connection,
    /// Anything else that Redis says.
    Other,
}

/// An error, and what it asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) trouble: Trouble,
    pub(crate) text: String,
}

impl Failure {
    pub(crate) fn new(trouble: Trouble, text: impl Into<String>) -> Self {
        Self { trouble, text: text.into() }
    }

    /// Whether the connection is good for nothing any more.
    pub(crate) fn ends_connection(&self) -> bool {
        matches!(self.trouble, Trouble::Connection | Trouble::WrongServer | Trouble::Moved)
    }

    /// For whoever just connects: some troubles are nothing that waiting mends.
    pub(crate) fn at_start(self) -> SubscriberError {
        match self.trouble {
            Trouble::Refused => SubscriberError::Misconfigured(self.text),
            _ => SubscriberError::Unavailable(self.text),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        // The details are Redis's or fred's words. Neither holds credentials.
        Self { trouble: classify(&error), text: error.details().chars().take(300).collect() }
    }
}

impl From<Failure> for SubscriberError {
    fn from(failure: Failure) -> Self {
        Self::Unavailable(failure.text)
    }
}

/// Classifies a client's error.
pub(crate) fn classify(error: &Error) -> Trouble {
    let trouble = classify_text(error.details());
    // Redis begins with a word in capitals; anything else is the client's own wording.
    let first = error.details().split_whitespace().next().unwrap_or_default();
    let from_redis = !first.is_empty() && first.chars().all(|c| c.is_ascii_uppercase());
    match error.kind() {
        _ if trouble != Trouble::Other || from_redis => trouble,
        ErrorKind::Auth => Trouble::Refused,
        // A client whose task has ended answers "channel closed" or "Client is not initialized.", both unknown.
        ErrorKind::IO
        | ErrorKind::Timeout
        | ErrorKind::Canceled
        | ErrorKind::Protocol
        | ErrorKind::Tls
        | ErrorKind::Unknown => Trouble::Connection,
        _ => Trouble::Other,
    }
}

/// Classifies an error as Redis words it.
pub(crate) fn classify_text(text: &str) -> Trouble {
    match text.split_whitespace().next().unwrap_or_default() {
        "NOGROUP" | "UNBLOCKED" => Trouble::GroupLost,
        // `ASK` and `TRYAGAIN` end with the move of a hash slot.
        "LOADING" | "MISCONF" | "OOM" | "BUSY" | "TRYAGAIN" | "NOREPLICAS" | "CLUSTERDOWN" | "ASK" => Trouble::Busy,
        "READONLY" | "MASTERDOWN" => Trouble::WrongServer,
        "NOAUTH" | "WRONGPASS" | "NOPERM" => Trouble::Refused,
        "WRONGTYPE" => Trouble::WrongType,
        "NOSCRIPT" => Trouble::NoScript,
        "MOVED" => Trouble::Moved,
        // A command that a script may not call (the wording of 7 and of 6).
        _ if text.contains("SELECT is not allowed in cluster mode") => Trouble::Refused,
        _ if text.contains("ACL failure") || text.contains("can't run this command") => Trouble::Refused,
        _ => Trouble::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_redis_really_says_is_understood() {
        let cases = [
            ("NOGROUP No such key 'x' or consumer group 'aiki-workers' in XREADGROUP", Trouble::GroupLost),
            ("UNBLOCKED the stream key no longer exists", Trouble::GroupLost),
            ("LOADING Redis is loading the dataset in memory", Trouble::Busy),
            ("OOM command not allowed when used memory > 'maxmemory'.", Trouble::Busy),
            ("MISCONF Redis is configured to save RDB snapshots, but ...", Trouble::Busy),
            ("READONLY You can't write against a read only replica.", Trouble::WrongServer),
            ("WRONGPASS invalid username-password pair or user is disabled.", Trouble::Refused),
            ("NOPERM this user has no permissions to run the 'xclaim' command", Trouble::Refused),
            ("ERR ACL failure in script: User x has no permissions to run the 'xclaim' command", Trouble::Refused),
            ("WRONGTYPE Operation against a key holding the wrong kind of value", Trouble::WrongType),
            ("MOVED 3999 127.0.0.1:6381", Trouble::Moved),
            ("CLUSTERDOWN The cluster is down", Trouble::Busy),
            ("ERR SELECT is not allowed in cluster mode", Trouble::Refused),
            ("ERR unknown command 'XFOO'", Trouble::Other),
        ];
        for (text, trouble) in cases {
            assert_eq!(classify_text(text), trouble, "{text}");
            assert_eq!(classify(&Error::new(ErrorKind::Unknown, text.to_owned())), trouble, "{text}");
        }
        assert_eq!(classify(&Error::new(ErrorKind::Timeout, "Request timed out.")), Trouble::Connection);
        assert_eq!(classify(&Error::new_canceled()), Trouble::Connection);
        assert_eq!(classify(&Error::new(ErrorKind::Unknown, "channel closed")), Trouble::Connection);
        assert_eq!(classify(&Error::new(ErrorKind::Unknown, "")), Trouble::Connection);
    }
}
