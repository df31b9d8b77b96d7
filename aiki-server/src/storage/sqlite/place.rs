//! Which file a path means.

use std::io;
use std::path::{Path, PathBuf};

use crate::start_error::ServerStartError;

/// The one true path of a database, so that the same file has the same lock whatever it was called by.
/// Its folder has to be there, it does not.
pub(super) fn resolve(path: &Path) -> Result<PathBuf, ServerStartError> {
    check(path)?;
    let failed = |error: io::Error| ServerStartError::File { path: path.to_owned(), reason: error.to_string() };
    match path.canonicalize() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        found => return found.map_err(failed),
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !folder.is_dir() {
        return Err(ServerStartError::DirectoryMissing { path: folder.to_owned() });
    }
    let name = path.file_name().ok_or_else(|| address(path, "it names no file"))?;
    Ok(folder.canonicalize().map_err(failed)?.join(name))
}

/// Refuses what SQLite or its drivers would take for something else than a file.
fn check(path: &Path) -> Result<(), ServerStartError> {
    let text = path.to_string_lossy();
    if text.is_empty() {
        return Err(address(path, "it is empty"));
    }
    if text.contains(":memory:") {
        return Err(address(path, "it asks for a database in memory"));
    }
    if text.contains('?') {
        return Err(address(path, "it has options, which are not supported"));
    }
    if text.starts_with("file:") || text.starts_with("sqlite:") {
        return Err(address(path, "it is an address"));
    }
    Ok(())
}

fn address(path: &Path, reason: &'static str) -> ServerStartError {
    ServerStartError::NotAPath { path: path.to_owned(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_not_there_yet_is_found_through_its_folder() {
        let folder = tempfile::tempdir().unwrap();
        let found = resolve(&folder.path().join(".").join("aiki.db")).unwrap();
        assert_eq!(found, folder.path().canonicalize().unwrap().join("aiki.db"));
    }

    #[test]
    fn what_is_not_a_path_is_refused_with_a_way_out() {
        for text in ["", ":memory:", "file::memory:", "aiki.db?mode=ro", "sqlite:aiki.db", "file:aiki.db"] {
            let error = resolve(Path::new(text)).unwrap_err();
            assert!(matches!(error, ServerStartError::NotAPath { .. }), "{text}: {error}");
            assert!(error.to_string().contains("Server::in_memory()"), "{error}");
        }
    }
}
