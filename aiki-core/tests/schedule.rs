//! The server's plans for schedules.
#![allow(clippy::unwrap_used, reason = "for tests")]

use std::time::Duration;

use aiki_core::hash::input_hash;
use aiki_core::run::{ConflictPolicy, QueuedReason, Reference};
use aiki_core::schedule::plan::{
    Activation, Fire, Known, NotActivated, Previous, activate, create, create_run, fire, reuse, set_status,
};
use aiki_core::schedule::{ActivateSchedule, Occurrences, ScheduleFilter};
use aiki_core::{
    InputHash, Name, OverlapPolicy, RunId, RunState, ScheduleId, ScheduleRecord, ScheduleSpec, ScheduleStatus,
    Timestamp, WorkflowKey,
};
use proptest::prelude::*;

/// Occurrences at fixed points in time, as a cron expression has them.
struct At(Vec<u64>);

impl Occurrences for At {
    fn next(&self, after: Timestamp) -> Option<Timestamp> {
        self.0.iter().find(|at| **at > after.as_millis()).map(|at| ms(*at))
    }

    fn latest(&self, after: Timestamp, until: Timestamp) -> Option<Timestamp> {
        let mut fitting = self.0.iter().filter(|at| **at > after.as_millis() && **at <= until.as_millis());
        fitting.next_back().map(|at| ms(*at))
    }
}

fn ms(at: u64) -> Timestamp {
    Timestamp::from_millis(at)
}

fn request(input: &str) -> ActivateSchedule {
    let hash = input_hash(Some(input)).unwrap();
    let spec = ScheduleSpec::every(Duration::from_secs(1));
    ActivateSchedule::new(WorkflowKey::user("w", "1"), spec, aiki_core::Payload::from_json(input).ok(), hash)
}

fn with_reference(input: &str, id: &str, conflict_policy: ConflictPolicy) -> ActivateSchedule {
    ActivateSchedule { reference: Some(Reference { id: id.into(), conflict_policy }), ..request(input) }
}

fn made(request: &ActivateSchedule, id: u128, occurrences: &At, now: u64) -> ScheduleRecord {
    let hash = request.definition_hashes().unwrap().remove(0);
    create(request, hash, ScheduleId::from_bits(id), &Name::new("n"), occurrences, ms(now))
}

fn schedule(policy: OverlapPolicy, occurrences: &At, now: u64) -> ScheduleRecord {
    let request = request("1");
    made(&ActivateSchedule { spec: request.spec.clone().overlap(policy), ..request }, 1, occurrences, now)
}

fn judge(request: &ActivateSchedule, schedules: &[&ScheduleRecord]) -> Result<Activation, NotActivated> {
    let hashes = request.definition_hashes().unwrap();
    let wanted = request.reference.as_ref().map(|reference| reference.id.clone());
    let by_reference = schedules.iter().copied().find(|record| wanted.is_some() && record.reference_id == wanted);
    let with_hash =
        |hash: &InputHash| schedules.iter().find(|record| record.definition_hash == *hash).copied().cloned();
    let by_definition: Vec<_> = hashes.iter().filter_map(with_hash).collect();
    activate(request, &hashes, Known { by_reference, by_definition: &by_definition })
}

#[test]
fn a_definition_is_found_whatever_its_reference() {
    let none = At(vec![]);
    let plain = made(&request("1"), 1, &none, 0);
    let named = made(&with_reference("2", "a", ConflictPolicy::Error), 2, &none, 0);
    assert_eq!(judge(&request("1"), &[&plain, &named]), Ok(Activation::Reuse(plain.id)));
    assert_eq!(judge(&request("2"), &[&plain, &named]), Ok(Activation::Reuse(named.id)));
    assert_eq!(judge(&request("3"), &[&plain, &named]), Ok(Activation::Create));
}

#[test]
fn a_reference_with_another_definition_is_a_conflict_or_the_existing_one() {
    let named = made(&with_reference("1", "a", ConflictPolicy::Error), 1, &At(vec![]), 0);
    let asked = |input, policy| judge(&with_reference(input, "a", policy), &[&named]);
    assert_eq!(asked("1", ConflictPolicy::Error), Ok(Activation::Reuse(named.id)));
    assert_eq!(asked("2", ConflictPolicy::Error), Err(NotActivated::Reference(named.id)));
    assert_eq!(asked("2", ConflictPolicy::ReturnExisting), Ok(Activation::Keep(named.id)));
}

#[test]
fn a_new_reference_adopts_a_schedule_without_one_and_nobody_elses() {
    let none = At(vec![]);
    let mut plain = made(&request("1"), 1, &none, 0);
    let asked = with_reference("1", "a", ConflictPolicy::ReturnExisting);
    assert_eq!(judge(&asked, &[&plain]), Ok(Activation::Reuse(plain.id)));
    set_status(&mut plain, ScheduleStatus::Inactive, ms(5));
    let hash = plain.definition_hash.clone();
    assert!(reuse(&mut plain, &asked, &hash, &At(vec![7, 9]), ms(7)));
    assert_eq!((plain.reference_id.as_deref(), plain.status), (Some("a"), ScheduleStatus::Active));
    assert_eq!((plain.next_run_at, plain.updated_at), (ms(9), ms(7)));
    // Now it has one: another reference cannot have the same definition.
    let other = with_reference("1", "b", ConflictPolicy::ReturnExisting);
    assert_eq!(judge(&other, &[&plain]), Err(NotActivated::Definition(plain.id)));
}

#[test]
fn a_rotated_hash_is_replaced_unless_somebody_has_the_new_one() {
    let none = At(vec![]);
    let mut old = made(&with_reference("1", "a", ConflictPolicy::Error), 1, &none, 0);
    let mut rotated = with_reference("2", "a", ConflictPolicy::Error);
    rotated.deprecated_hashes = vec![request("1").input_hash];
    assert_eq!(judge(&rotated, &[&old]), Ok(Activation::Reuse(old.id)));
    let other = made(&request("2"), 2, &none, 0);
    assert_eq!(judge(&rotated, &[&old, &other]), Err(NotActivated::Definition(other.id)));
    let hashes = rotated.definition_hashes().unwrap();
    assert!(reuse(&mut old, &rotated, &hashes[0], &none, ms(3)));
    assert_eq!((&old.definition_hash, &old.input_hash), (&hashes[0], &rotated.input_hash));
    assert!(!reuse(&mut old, &rotated, &hashes[0], &none, ms(4)), "the second time nothing changes");
    assert_eq!(old.updated_at, ms(3));
}

#[test]
fn reactivation_moves_the_due_time_but_not_the_anchor() {
    let times = At(vec![10, 20, 30, 40]);
    let mut record = schedule(OverlapPolicy::Allow, &times, 5);
    fire(&mut record, &times, ms(10), false, 9).unwrap();
    set_status(&mut record, ScheduleStatus::Paused, ms(12));
    let (asked, hash) = (request("1"), record.definition_hash.clone());
    assert!(reuse(&mut record, &asked, &hash, &times, ms(35)));
    assert_eq!((record.next_run_at, record.anchor()), (ms(40), ms(10)));
    assert_eq!(fire(&mut record, &times, ms(35), false, 9), None);
    let caught_up = fire(&mut record, &times, ms(40), false, 9).unwrap();
    assert_eq!(caught_up.occurrences, [ms(20), ms(30), ms(40)]);
}

#[test]
fn an_occurrence_is_due_in_its_own_millisecond_and_not_before() {
    for policy in [OverlapPolicy::Allow, OverlapPolicy::Skip, OverlapPolicy::CancelPrevious] {
        let times = At(vec![10, 20]);
        let mut record = schedule(policy, &times, 5);
        assert_eq!(fire(&mut record, &times, ms(9), false, 9), None);
        let fired = fire(&mut record, &times, ms(10), false, 9).unwrap();
        assert_eq!(fired, Fire { occurrences: vec![ms(10)], previous: Previous::Stays });
        assert_eq!((record.last_occurrence, record.next_run_at, record.run_count), (Some(ms(10)), ms(20), 1));
        assert_eq!(fire(&mut record, &times, ms(10), true, 9), None, "once is enough");
    }
}

#[test]
fn skip_leaves_the_occurrence_out_and_keeps_the_last_one() {
    let times = At(vec![10, 20, 30]);
    let mut record = schedule(OverlapPolicy::Skip, &times, 5);
    fire(&mut record, &times, ms(10), false, 9).unwrap();
    let fired = fire(&mut record, &times, ms(20), true, 9).unwrap();
    assert_eq!(fired, Fire { occurrences: vec![], previous: Previous::Stays });
    assert_eq!((record.last_occurrence, record.next_run_at, record.run_count), (Some(ms(10)), ms(30), 1));
    assert_eq!(fire(&mut record, &times, ms(30), false, 9).unwrap().occurrences, [ms(30)]);
}

#[test]
fn cancel_previous_cancels_what_has_not_ended() {
    let times = At(vec![10, 20, 30]);
    let mut record = schedule(OverlapPolicy::CancelPrevious, &times, 5);
    fire(&mut record, &times, ms(10), false, 9).unwrap();
    let fired = fire(&mut record, &times, ms(35), true, 9).unwrap();
    assert_eq!(fired, Fire { occurrences: vec![ms(30)], previous: Previous::Cancelled });
}

#[test]
fn a_paused_schedule_is_not_due_and_resuming_keeps_its_time() {
    let times = At(vec![10, 20]);
    let mut record = schedule(OverlapPolicy::Skip, &times, 5);
    for status in [ScheduleStatus::Paused, ScheduleStatus::Inactive] {
        assert!(set_status(&mut record, status, ms(6)));
        assert!(!set_status(&mut record, status, ms(7)));
        assert_eq!((record.due_at(), fire(&mut record, &times, ms(15), false, 9)), (None, None));
    }
    set_status(&mut record, ScheduleStatus::Active, ms(15));
    assert_eq!(record.due_at(), Some(ms(10)));
}

#[test]
fn an_occurrence_that_a_change_of_law_took_away_does_not_hold_the_schedule_up() {
    let mut record = schedule(OverlapPolicy::Skip, &At(vec![10]), 5);
    for policy in [OverlapPolicy::Skip, OverlapPolicy::Allow] {
        record.spec.overlap = Some(policy);
        record.next_run_at = ms(10);
        let fired = fire(&mut record, &At(vec![20]), ms(12), true, 9).unwrap();
        assert_eq!((fired.occurrences.len(), fired.previous, record.next_run_at), (0, Previous::Stays, ms(20)));
    }
    // The last of all occurrences was the last.
    fire(&mut record, &At(vec![20]), ms(20), false, 9).unwrap();
    assert_eq!((record.next_run_at, record.due_at()), (Timestamp::MAX, None));
}

#[test]
fn a_calendar_that_contradicts_itself_does_not_keep_the_schedule_due() {
    /// Its last occurrence is followed by one that it says nothing of when asked for the last.
    struct Contradicting;
    impl Occurrences for Contradicting {
        fn next(&self, after: Timestamp) -> Option<Timestamp> {
            Some(ms(after.as_millis() + 1))
        }
        fn latest(&self, _: Timestamp, until: Timestamp) -> Option<Timestamp> {
            Some(ms(until.as_millis() - 5))
        }
    }
    let mut record = schedule(OverlapPolicy::Skip, &At(vec![10]), 5);
    fire(&mut record, &Contradicting, ms(20), true, 9).unwrap();
    assert_eq!(record.next_run_at, ms(21));
}

#[test]
fn the_run_of_an_occurrence_is_queued_at_revision_0_under_its_reference() {
    let mut record = schedule(OverlapPolicy::Skip, &At(vec![]), 5);
    record.id = "01M83J1FGBD5T144X7K5ZS1TBV".parse().unwrap();
    let mut entries = Vec::new();
    let run = create_run(&record, ms(1_795_415_926_029), RunId::from_bits(1 << 24), ms(7), &mut entries);
    assert_eq!(run.reference_id.as_deref(), Some("schedule:01M83J1FGBD5T144X7K5ZS1TBV:1795415926029"));
    assert_eq!(run.state, RunState::Queued { reason: QueuedReason::New });
    assert_eq!((run.revision, run.attempts, run.schedule, run.transitions), (0, 1, Some(record.id), 1));
    assert_eq!(run.state_transition_id(), run.id.transition(0));
    assert_eq!(run.history_len as usize, entries.len());
    let folded = aiki_core::RunRecord::fold(&run, entries.clone());
    assert_eq!((folded.schedule, folded.input), (Some(record.id), record.input));
    assert_eq!(aiki_core::run::record::transitions(&run, entries).len(), 1);
}

#[test]
fn a_filter_fits_what_fits_all_of_its_parts() {
    let record = made(&with_reference("1", "a", ConflictPolicy::Error), 1, &At(vec![]), 0);
    let fits = |filter: ScheduleFilter| filter.matches(&record);
    assert!(fits(ScheduleFilter::default()));
    assert!(fits(ScheduleFilter {
        statuses: vec![ScheduleStatus::Paused, ScheduleStatus::Active],
        id: Some(record.id),
        reference_id: Some("a".into()),
        workflows: vec![("v".into(), None), ("w".into(), Some("1".into()))],
    }));
    assert!(!fits(ScheduleFilter { statuses: vec![ScheduleStatus::Paused], ..Default::default() }));
    assert!(!fits(ScheduleFilter { id: Some(ScheduleId::from_bits(9)), ..Default::default() }));
    assert!(!fits(ScheduleFilter { reference_id: Some("b".into()), ..Default::default() }));
    assert!(!fits(ScheduleFilter { workflows: vec![("w".into(), Some("2".into()))], ..Default::default() }));
}

#[derive(Clone, Debug)]
enum Step {
    /// The server looks after so many milliseconds; negative: the clock was set back.
    Look(i64),
    Pause,
    Resume,
    Reactivate,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (-50..200_i64).prop_map(Step::Look),
        1 => Just(Step::Pause),
        1 => Just(Step::Resume),
        1 => Just(Step::Reactivate),
    ]
}

proptest! {
    #[test]
    fn no_occurrence_has_two_runs_and_allow_leaves_none_out(
        gaps in prop::collection::vec(1..40_u64, 1..60),
        policy in prop::sample::select(vec![OverlapPolicy::Allow, OverlapPolicy::Skip, OverlapPolicy::CancelPrevious]),
        limit in 1..5_usize,
        previous_open in any::<bool>(),
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let mut at = 1_000;
        // The last one is later than the clock ever gets before the end.
        let times = At(gaps.iter().copied().chain([100_000]).map(|gap| { at += gap; at }).collect());
        let mut record = schedule(policy, &times, 1_000);
        let (mut now, mut fired) = (1_000_u64, Vec::new());
        let mut look = |record: &mut ScheduleRecord, now: u64| {
            let open = |record: &ScheduleRecord| previous_open && record.last_occurrence.is_some();
            while let Some(fire) = fire(record, &times, ms(now), open(record), limit) {
                assert!(fire.occurrences.len() <= limit);
                assert!(fire.occurrences.iter().all(|occurrence| *occurrence <= ms(now)), "early");
                fired.extend(fire.occurrences);
            }
        };
        for step in steps {
            match step {
                Step::Look(by) => now = now.saturating_add_signed(by).max(1_000),
                Step::Pause => drop(set_status(&mut record, ScheduleStatus::Paused, ms(now))),
                Step::Resume => drop(set_status(&mut record, ScheduleStatus::Active, ms(now))),
                Step::Reactivate => {
                    let hash = record.definition_hash.clone();
                    reuse(&mut record, &request("1"), &hash, &times, ms(now));
                }
            }
            look(&mut record, now);
        }
        set_status(&mut record, ScheduleStatus::Active, ms(now));
        now = at;
        look(&mut record, now);
        prop_assert!(fired.windows(2).all(|pair| pair[0] < pair[1]), "{:?}", fired);
        prop_assert_eq!(record.run_count, fired.len() as u64);
        let all: Vec<_> = times.0.iter().map(|at| ms(*at)).collect();
        prop_assert!(fired.iter().all(|occurrence| all.contains(occurrence)));
        match policy {
            OverlapPolicy::Allow => prop_assert_eq!(fired, all),
            OverlapPolicy::CancelPrevious => prop_assert_eq!(fired.last(), all.last()),
            OverlapPolicy::Skip => prop_assert!(!fired.is_empty()),
        }
    }
}
