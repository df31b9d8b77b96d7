//! `aiki-server keys`.

use std::io::Write;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::http::Role;
use crate::keys::{KeyId, KeyStore, KeyStoreError, LIST_LIMIT, NewKey, StoredKey};
use aiki_core::{Clock, Name, Timestamp};
use aiki_runtime::SystemClock;

use super::args::{CreateKey, DatabaseFlags, RevokeKey};
use super::database::Database;
use super::exit::Failure;
use super::settings;
use super::units::Span;

fn open(flags: &DatabaseFlags) -> Result<std::sync::Arc<dyn KeyStore>, Failure> {
    let database = settings::load_place(flags)?;
    if database == Database::Memory {
        return Err(Failure::usage("keys in memory would be gone at once: name the server's database with --database"));
    }
    database.keys()
}

/// Makes a key and prints it.
pub(crate) fn create(flags: &CreateKey) -> Result<(), Failure> {
    let role = Role::parse(&flags.role).ok_or_else(|| Failure::usage("--role: expected client, worker or admin"))?;
    let namespace = Name::checked(&flags.namespace).map_err(|error| Failure::usage(format!("--namespace: {error}")))?;
    let now = SystemClock.now();
    let expires = flags.expires.as_ref().map(|text| text.parse::<Span>()).transpose();
    let expires = expires.map_err(|error| Failure::usage(format!("--expires: {error}")))?;
    if expires == Some(Span(Duration::ZERO)) {
        return Err(Failure::usage("--expires: the key would have ended before it was made"));
    }
    let expires_at = expires.map(|span| now.after(span.0));
    let store = open(&flags.place)?;
    let key = add(&*store, &|key| key.stored(namespace.clone(), role, now, expires_at))?;
    match &flags.output {
        None => print(&format!("{}\n", key.text())),
        Some(path) => write_private(path, key.text()).map_err(|error| {
            // Nobody has seen it: it must not stay good.
            if let Some(id) = KeyId::of(key.text()) {
                let _ = store.revoke(&id);
            }
            Failure::broken(format!("{} cannot be written ({error}); the key was revoked", path.display()))
        }),
    }
}

/// Ids have 32 bits: one that is taken is no surprise among many keys.
fn add(store: &dyn KeyStore, stored: &dyn Fn(&NewKey) -> StoredKey) -> Result<NewKey, Failure> {
    const TRIES: usize = 5;
    let mut taken = None;
    for _ in 0..TRIES {
        let key = NewKey::random().map_err(|error| Failure::broken(format!("no randomness for a key: {error}")))?;
        match store.add(&stored(&key)) {
            Ok(()) => return Ok(key),
            Err(error @ KeyStoreError::Taken(_)) => taken = Some(error),
            Err(error) => return Err(error.into()),
        }
    }
    Err(taken.map_or_else(|| Failure::broken("no key was made"), Failure::from))
}

fn write_private(path: &Path, key: &str) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(key.as_bytes())?;
    file.sync_all()
}

/// Lists the keys.
pub(crate) fn list(flags: &DatabaseFlags) -> Result<(), Failure> {
    let keys = open(flags)?.list()?;
    let now = SystemClock.now();
    let mut text =
        format!("{:<10}{:<20}{:<8}{:<9}{:<22}{}\n", "ID", "NAMESPACE", "ROLE", "STATUS", "CREATED", "EXPIRES");
    for key in &keys {
        let status = match key.expires_at {
            _ if key.revoked => "revoked",
            Some(at) if at <= now => "expired",
            _ => "active",
        };
        let expires = key.expires_at.map_or_else(|| "never".to_owned(), date);
        let (id, namespace, role) = (key.id.as_str(), key.namespace.as_str(), key.role.as_str());
        text += &format!("{id:<10}{namespace:<19} {role:<8}{status:<9}{:<22}{expires}\n", date(key.created_at));
    }
    if keys.len() == LIST_LIMIT {
        text += "... there may be more\n";
    }
    print(&text)
}

/// Takes a key back.
pub(crate) fn revoke(flags: &RevokeKey) -> Result<(), Failure> {
    let id = KeyId::parse(&flags.id).map_err(|error| Failure::usage(format!("`{}`: {error}", flags.id)))?;
    match open(&flags.place)?.revoke(&id)? {
        true => print(&format!("revoked {id}; servers refuse it within five seconds\n")),
        false => Err(Failure::broken(format!("there is no key {id}: see `aiki-server keys list`"))),
    }
}

fn print(text: &str) -> Result<(), Failure> {
    std::io::stdout().write_all(text.as_bytes()).map_err(|error| Failure::broken(format!("stdout: {error}")))
}

/// `2026-03-01T12:00:00Z`.
fn date(at: Timestamp) -> String {
    let since_epoch = Duration::from_millis(at.as_millis());
    let time = UNIX_EPOCH.checked_add(since_epoch).unwrap_or(SystemTime::UNIX_EPOCH);
    match jiff::Timestamp::try_from(time) {
        Ok(time) => format!("{time:.0}"),
        // Beyond the year 9999.
        Err(_) => "never".into(),
    }
}
