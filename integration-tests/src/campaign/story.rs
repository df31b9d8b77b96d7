//! The history for the checker, from what was noted.

use std::collections::{BTreeSet, HashSet};

use aiki_core::{Name, RunId};
use aiki_proof::history::{AttemptEnd, Fault, Happened, What, Written};

use super::inject::Injected;
use super::notes::{BodyEnd, Line, Note};
use super::plan::Kind;
use super::profile::LEASE;

/// How often trouble that lasts is told.
const AGAIN_US: usize = 500_000;

/// Puts together what all processes noted and what was done to them.
///
/// Several processes wrote it, so an answer may be noted later than it was given, and a report is done at an unknown
/// moment between sending and answer. Where the checker asks for *after*, it must not be misled: a report stands both
/// where it was first sent and where its answer came. What was granted after the first cannot have been granted before
/// the report was done, and what began after the second began after it was on record.
pub fn story(lines: &[Line], injected: &[Injected]) -> Vec<Happened> {
    let mut all: Vec<(u64, What)> = Vec::with_capacity(lines.len() * 3 / 2);
    let mut first_sent: HashSet<(RunId, u64, u64, &str)> = HashSet::new();
    for line in lines {
        if let Note::Sent { run, epoch, seq, .. } = line.note
            && !first_sent.insert((run, epoch, seq, &line.worker))
        {
            continue;
        }
        if let Note::Reported { sent_us, .. } = line.note {
            // Just behind its `Sent`, which was noted a moment before.
            all.push((sent_us, what(line)));
        }
        all.push((line.at_us, what(line)));
    }
    let workers: BTreeSet<&str> = lines.iter().map(|line| line.worker.as_str()).collect();
    for fault in injected {
        if fault.kind == Kind::LineSlow {
            // It troubles each of them, and for longer than one run takes.
            for (at, worker) in (fault.from_us..=fault.until_us)
                .step_by(AGAIN_US)
                .flat_map(|at| workers.iter().map(move |worker| (at, worker)))
            {
                all.push((at, What::Fault { fault: Fault::RequestLost, worker: Some(Name::new(*worker)) }));
            }
        }
        let Some(kind) = fault.kind.judged_as() else { continue };
        let worker = fault.worker.as_deref().filter(|_| explains(kind)).map(Name::new);
        for at in [fault.from_us, fault.until_us] {
            all.push((at, What::Fault { fault: kind, worker: worker.clone() }));
        }
    }
    all.sort_by_key(|(at, _)| *at);
    let begun = all.first().map_or(0, |(at, _)| *at);
    all.into_iter().map(|(at, what)| Happened { at: (at - begun) / 1_000, what }).collect()
}

/// Trouble of the transport has no place: it explains nobody's repeated attempt.
fn explains(fault: Fault) -> bool {
    !matches!(fault, Fault::TransportDown | Fault::TransportWiped | Fault::DeliveryDuplicated | Fault::AnnouncementLost)
}

fn what(line: &Line) -> What {
    let worker = Name::new(&line.worker);
    match line.note.clone() {
        Note::Created { run, key } => What::Created { run, key: Some(key) },
        Note::Intervened { run } => What::Intervened { run },
        Note::Granted { run, epoch } => What::Granted { run, epoch, worker },
        Note::Done { run } => What::Done { run, worker },
        Note::Sent { run, epoch, seq, .. } => What::Sent { run, epoch, seq, worker },
        Note::Reported { run, epoch, seq, ended, closes, .. } => {
            What::Reported { run, epoch, seq, worker, written: Written { ended, closes } }
        }
        Note::Refused { run, epoch } => What::Refused { run, epoch, worker },
        Note::Lost { run, epoch } => What::Lost { run, epoch, worker },
        Note::Released { run, epoch } => What::Released { run, epoch, worker },
        Note::Delivered { run, receipt } => What::Delivered { run, worker, receipt },
        Note::Acked { run, receipt } => What::Acked { run, worker, receipt },
        Note::Began { task, attempt, .. } => What::Began { task, attempt, worker },
        Note::Ended { task, attempt, how } => {
            let how = match how {
                BodyEnd::Returned => AttemptEnd::Returned,
                BodyEnd::Panicked => AttemptEnd::Panicked,
                BodyEnd::Dropped => AttemptEnd::Dropped,
            };
            What::Ended { task, attempt, worker, how }
        }
        Note::Decided { run, pass, life, place, value } => What::Decided { run, worker, pass, life, place, value },
        Note::Stopped => What::Stopped { worker },
        Note::Stalled { ms } => {
            let long = u128::from(ms) >= LEASE.as_millis();
            let fault = if long { Fault::WorkerPaused } else { Fault::WorkerHiccup };
            What::Fault { fault, worker: Some(worker) }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use aiki_proof::check::{Bounds, judge};
    use aiki_proof::end::{End, NoViews};

    use super::*;

    fn line(at_us: u64, worker: &str, note: Note) -> Line {
        Line { at_us, wall_ms: 0, process: 1, worker: worker.into(), note }
    }

    fn found(lines: &[Line], injected: &[Injected]) -> Vec<u8> {
        let second = Duration::from_secs(1);
        let bounds = Bounds { late: second, early: second, lease: second };
        judge(&story(lines, injected), &End::default(), &NoViews, bounds)
            .iter()
            .map(|wrong| wrong.invariant.0)
            .collect()
    }

    fn run() -> RunId {
        RunId::from_bits(7 << 24)
    }

    fn began(at_us: u64, worker: &str) -> Line {
        line(at_us, worker, Note::Began { task: run().task(0), attempt: 1, number: 1 })
    }

    fn reported(at_us: u64, sent_us: u64, worker: &str, epoch: u64) -> Line {
        let ended = vec![(run().task(0), true)];
        line(at_us, worker, Note::Reported { run: run(), epoch, seq: 1, ended, closes: false, sent_us })
    }

    fn granted(at_us: u64, worker: &str, epoch: u64) -> Line {
        line(at_us, worker, Note::Granted { run: run(), epoch })
    }

    #[test]
    fn an_answer_that_is_noted_late_is_no_write_under_an_old_claim() {
        let sent = |at, worker: &str| line(at, worker, Note::Sent { run: run(), epoch: 1, seq: 1, ended: vec![] });
        let late = [granted(1, "a", 1), sent(10, "a"), granted(20, "b", 2), reported(30, 11, "a", 1)];
        assert!(found(&late, &[]).is_empty());
        let old = [granted(1, "a", 1), granted(5, "b", 2), sent(10, "a"), reported(30, 11, "a", 1)];
        assert!(found(&old, &[]).contains(&5), "it was sent when the next claim was granted already");
    }

    #[test]
    fn trouble_of_redis_explains_no_repeated_attempt_and_the_death_of_a_worker_does() {
        let twice = [granted(1, "a", 1), began(2, "a"), granted(9_000_000, "b", 2), began(9_000_001, "b")];
        let fault = |kind, worker: &str| Injected {
            kind,
            worker: Some(worker.to_owned()),
            from_us: 3,
            until_us: 4,
            ended_in_ms: None,
            malformed: 0,
            felt: None,
        };
        assert_eq!(found(&twice, &[]), [11]);
        assert_eq!(found(&twice, &[fault(Kind::RedisUnreachable, "a")]), [11]);
        assert_eq!(found(&twice, &[fault(Kind::WorkerKilled, "b")]), [11], "it was another worker");
        let thawed = [granted(1, "a", 1), granted(9_000_000, "b", 2), began(9_000_001, "b"), began(9_500_000, "a")];
        assert_eq!(found(&thawed, &[]), [11]);
        assert!(
            found(&thawed, &[fault(Kind::WorkerFrozen, "a")]).is_empty(),
            "it goes on with what it was about to do"
        );
        assert!(found(&twice, &[fault(Kind::WorkerKilled, "a")]).is_empty());
    }

    #[test]
    fn a_claim_that_was_answered_late_may_be_let_go_and_one_that_was_answered_at_once_may_not() {
        let delivered = |at| line(at, "a", Note::Delivered { run: run(), receipt: "1".into() });
        let acked = |at| line(at, "a", Note::Acked { run: run(), receipt: "1".into() });
        let stalled = line(900_000, "a", Note::Stalled { ms: 800 });
        let first = line(0, "campaign", Note::Created { run: run(), key: "run-1".into() });
        let late = [first.clone(), delivered(1), stalled.clone(), granted(900_001, "a", 1), acked(1_200_000)];
        assert!(!found(&late, &[]).contains(&10));
        let soon = [first.clone(), delivered(1), granted(2, "a", 1), acked(1_200_000)];
        assert!(found(&soon, &[]).contains(&10));
        let long_ago = [first, stalled, delivered(2_900_000), granted(2_900_001, "a", 1), acked(3_000_000)];
        assert!(found(&long_ago, &[]).contains(&10));
    }

    #[test]
    fn a_body_that_begins_after_the_record_is_found() {
        let lines = [granted(1, "a", 1), began(2, "a"), reported(10, 5, "a", 1), began(20, "a")];
        assert!(found(&lines, &[]).contains(&3));
    }
}
