//! Every write names the version that it was planned on, and nothing else is written.

use aiki_core::hash::input_hash;
use aiki_core::name::WorkflowKey;
use aiki_core::run::RunStatus;
use aiki_core::run::plan::{self, CreateRun};
use aiki_core::{Name, RunId, Timestamp};

use super::memory::MemoryStorage;
use super::{RunWrite, Storage, StorageError, StoredRun};

fn write(run: &StoredRun, expected: Option<u64>, was: Option<RunStatus>) -> RunWrite<'_> {
    RunWrite { run, expected, spilled: &[], marks: &[], drop_pages_below: None, was, forget: false }
}

fn a_write_on_an_older_version_is_refused(storage: &mut dyn Storage) {
    let (id, now) = (RunId::from_bits(1 << 24), Timestamp::from_millis(1));
    let request = CreateRun::new(WorkflowKey::user("w", "1"), None, input_hash(None).unwrap());
    let head = plan::create(&request, id, &Name::new("n"), now, &mut Vec::new());
    let status = Some(head.state.status());
    let row = |version| StoredRun { head: head.clone(), tail: String::new(), pages: 0, version };
    let (first, second, third) = (row(1), row(2), row(3));
    storage.commit(&[write(&first, None, None)], &[]).unwrap();
    storage.commit(&[write(&second, Some(1), status)], &[]).unwrap();
    // With the status as it is, with another one, as new, and gone.
    let forget = RunWrite { forget: true, ..write(&third, Some(1), status) };
    let late = [
        write(&third, Some(1), status),
        write(&third, Some(1), Some(RunStatus::Running)),
        write(&third, None, None),
        forget,
    ];
    for late in late {
        let refused = storage.commit(&[late], &[]).unwrap_err();
        assert!(matches!(refused, StorageError::Conflict(run) if run == id), "{refused:?}");
        let stored = storage.reads().load(&[id]).unwrap().remove(0).unwrap().unwrap();
        assert_eq!(stored.version, 2);
    }
    storage.commit(&[write(&third, Some(2), status)], &[]).unwrap();
}

#[test]
fn in_memory() {
    a_write_on_an_older_version_is_refused(&mut MemoryStorage::default());
}

#[cfg(feature = "sqlite")]
#[test]
fn in_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let options = super::sqlite::Options { path: folder.path().join("aiki.db"), page_limit: None };
    let (mut storage, _readers) = super::sqlite::open(options).unwrap();
    a_write_on_an_older_version_is_refused(&mut *storage);
}
