//! What one server tells the others of a commit: runs that have ended, and runs whose workers want to know that
//! something happened to them.

use std::fmt::Write;
use std::hash::{DefaultHasher, Hash, Hasher};

use aiki_core::{Name, RunId};

use crate::effects::Change;

/// The longest notice, in bytes. Postgres takes less than 8,000.
const LIMIT: usize = 7_900;
/// Stands for everything that does not fit.
const LOOK_AGAIN: &str = "*";

/// Names a worker of a namespace in a few bytes. Two that share it look once too often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WorkerMark(u64);

impl WorkerMark {
    pub(crate) fn of(namespace: &Name, worker: &Name) -> Self {
        // The same in all programs of one version; with another one, a worker hears it at its next refresh.
        let mut hasher = DefaultHasher::new();
        (namespace.as_str(), worker.as_str()).hash(&mut hasher);
        Self(hasher.finish())
    }
}

/// A notice as it was received.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Notice {
    /// The server that sent it.
    pub(crate) from: u64,
    pub(crate) ended: Vec<RunId>,
    pub(crate) news: Vec<(WorkerMark, RunId)>,
    /// Workers whose connection to that server broke: are they here?
    pub(crate) sought: Vec<WorkerMark>,
    /// Workers that are on the line there.
    pub(crate) present: Vec<WorkerMark>,
    /// More happened than is said.
    pub(crate) look_again: bool,
}

/// The notice of a commit; `None` when it has nothing for others.
pub(crate) fn write<'a>(from: u64, changes: impl Iterator<Item = Change<'a>>) -> Option<String> {
    let mut text = format!("{from:x}");
    let begin = text.len();
    for change in changes {
        let run = change.head.id;
        // Writing to a string does not fail.
        if change.has_ended() {
            let _ = write!(text, " e{run}");
        }
        if let Some(worker) = change.concerns() {
            let WorkerMark(mark) = WorkerMark::of(&change.head.namespace, worker);
            let _ = write!(text, " n{run}{mark:x}");
        }
        if text.len() > LIMIT {
            text.truncate(begin);
            let _ = write!(text, " {LOOK_AGAIN}");
            return Some(text);
        }
    }
    (text.len() > begin).then_some(text)
}

/// Asks whether another server hears a worker.
pub(crate) fn seek(from: u64, WorkerMark(mark): WorkerMark) -> String {
    format!("{from:x} s{mark:x}")
}

/// Says that it does.
pub(crate) fn present(from: u64, WorkerMark(mark): WorkerMark) -> String {
    format!("{from:x} p{mark:x}")
}

/// Reads a notice. What is not understood means to look again.
pub(crate) fn read(text: &str) -> Notice {
    let mut words = text.split(' ');
    let from = words.next().and_then(|word| u64::from_str_radix(word, 16).ok());
    let mut notice = Notice { from: from.unwrap_or_default(), look_again: from.is_none(), ..Notice::default() };
    for word in words {
        let mark = || u64::from_str_radix(word.get(1..)?, 16).ok().map(WorkerMark);
        match (word.get(..1), mark()) {
            (Some("s"), Some(mark)) => {
                notice.sought.push(mark);
                continue;
            }
            (Some("p"), Some(mark)) => {
                notice.present.push(mark);
                continue;
            }
            _ => {}
        }
        let understood = match (word.get(..1), word.get(1..27).map(str::parse::<RunId>), word.get(27..)) {
            (Some("e"), Some(Ok(run)), Some("")) => {
                notice.ended.push(run);
                true
            }
            (Some("n"), Some(Ok(run)), Some(mark)) => match u64::from_str_radix(mark, 16) {
                Ok(mark) => {
                    notice.news.push((WorkerMark(mark), run));
                    true
                }
                Err(_) => false,
            },
            _ => false,
        };
        notice.look_again |= !understood;
    }
    notice
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::effects::Before;
    use aiki_core::Timestamp;
    use aiki_core::hash::input_hash;
    use aiki_core::name::WorkflowKey;
    use aiki_core::run::RunHead;
    use aiki_core::run::plan::{CreateRun, cancel, claim, create};
    use std::time::Duration;

    fn head(bits: u128) -> RunHead {
        let request = CreateRun::new(WorkflowKey::user("w", "1"), None, input_hash(None).unwrap());
        create(
            &request,
            RunId::from_bits(bits << 24),
            &Name::new("default"),
            Timestamp::from_millis(1),
            &mut Vec::new(),
        )
    }

    #[test]
    fn a_cancelled_run_is_news_for_its_worker_and_for_those_who_wait() {
        let mut run = head(1);
        let (worker, now) = (Name::new("w"), Timestamp::from_millis(2));
        claim(&mut run, &worker, Duration::from_secs(9), now, &mut Vec::new());
        let before = Before::of(&run);
        cancel(&mut run, None, now, &mut Vec::new()).unwrap();
        let text = write(0xAB, std::iter::once(Change { before: Some(&before), head: &run })).unwrap();
        let mark = WorkerMark::of(&Name::new("default"), &worker);
        let expected = Notice { from: 0xAB, ended: vec![run.id], news: vec![(mark, run.id)], ..Notice::default() };
        assert_eq!(read(&text), expected);
    }

    #[test]
    fn a_commit_that_is_nothing_to_others_sends_no_notice() {
        let run = head(1);
        assert_eq!(write(1, std::iter::once(Change { before: None, head: &run })), None);
    }

    #[test]
    fn a_notice_that_would_be_too_long_says_to_look_again() {
        let mut runs: Vec<RunHead> = (1..400).map(head).collect();
        let befores: Vec<Before> = runs.iter().map(Before::of).collect();
        for run in &mut runs {
            cancel(run, None, Timestamp::from_millis(2), &mut Vec::new()).unwrap();
        }
        let changes = runs.iter().zip(&befores).map(|(head, before)| Change { before: Some(before), head });
        let text = write(1, changes).unwrap();
        assert!(text.len() < 8_000 && read(&text).look_again, "{text}");
    }

    #[test]
    fn a_worker_is_sought_and_found() {
        let mark = WorkerMark::of(&Name::new("n"), &Name::new("w"));
        assert_eq!(read(&seek(7, mark)), Notice { from: 7, sought: vec![mark], ..Notice::default() });
        assert_eq!(read(&present(7, mark)), Notice { from: 7, present: vec![mark], ..Notice::default() });
    }

    #[test]
    fn a_notice_of_another_version_says_to_look_again() {
        for text in ["", "zz", "1 x", "1 e123", "1 n01KAZZZZZZZZZZZZZZZZZZZZZZzz", "1 szz", "1 *"] {
            assert!(read(text).look_again, "{text}");
        }
    }
}
