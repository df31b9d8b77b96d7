use aiki_core::hash::input_hash;
use aiki_core::name::Name;
use aiki_core::replay::Close;
use aiki_core::run::Ordinals;
use aiki_core::subscriber::Receipt;
use aiki_core::{Priority, RunRecord, RunState, Timestamp};

use super::*;

const LEASE: Duration = Duration::from_secs(60);

fn run(n: u128) -> RunId {
    RunId::from_bits(n << 24)
}

fn delivery(n: u128) -> Delivery {
    Delivery { run: run(n), workflow: WorkflowKey::user("w", "1"), receipt: Receipt(format!("r{n}")), claimed: None }
}

fn ticket(n: u128) -> Ticket {
    Ticket { generation: 1, receipt: Receipt(format!("r{n}")) }
}

fn claim(n: u128, epoch: u64) -> Box<ClaimedRun> {
    let id = run(n);
    let record = RunRecord {
        id,
        namespace: Name::new("default"),
        workflow: WorkflowKey::user("w", "1"),
        created_at: Timestamp::EPOCH,
        started_at: None,
        revision: 1,
        state_transition_id: id.transition(0),
        input: None,
        input_hash: input_hash(None).unwrap(),
        reference_id: None,
        schedule: None,
        options: None,
        priority: Priority::default(),
        attempts: 1,
        state: RunState::Running,
        tasks: Vec::new(),
        sleeps: Vec::new(),
        times: Vec::new(),
        seen: None,
        events: Vec::new(),
        waits: Vec::new(),
        children: Vec::new(),
        parent: None,
        deadline: None,
        trace: None,
        ordinals: Ordinals::default(),
        history_len: 2,
    };
    Box::new(ClaimedRun { record, epoch, lease: LEASE, history_limit: 50_000, granted_at: None })
}

fn granted(n: u128) -> ClaimOutcome {
    ClaimOutcome::Granted(claim(n, 7))
}

/// A call that was answered at once.
fn just_now() -> (Instant, Instant) {
    let now = Instant::now();
    (now, now)
}

/// Receives and claims these runs.
fn hold(state: &mut State, runs: &[u128]) {
    assert!(matches!(state.next(Instant::now(), false, 0), Next::Receive(_)));
    let sorted = state.received(runs.iter().map(|n| delivery(*n)).collect(), 1, just_now(), |_| true);
    let outcomes = runs.iter().map(|n| granted(*n)).collect();
    assert_eq!(state.claimed(sorted.claim, 1, outcomes, Duration::ZERO).start.len(), runs.len());
}

#[test]
fn slots_are_taken_before_anything_is_read() {
    let mut state = State::new(3, LEASE);
    assert_eq!(state.next(Instant::now(), false, 0), Next::Receive(3));
    assert_eq!(state.next(Instant::now(), false, 0), Next::Rest, "a second receive would find no slots");
    let sorted = state.received(vec![delivery(1), delivery(2)], 1, just_now(), |_| true);
    assert_eq!(sorted.claim.len(), 2);
    assert_eq!(state.next(Instant::now(), false, 0), Next::Rest, "a claim is under way");
    let sorted = state.claimed(sorted.claim, 1, vec![granted(1), ClaimOutcome::Done], Duration::ZERO);
    assert_eq!(sorted.start.len(), 1);
    assert_eq!(sorted.settle.ack, [ticket(2)]);
    assert_eq!(state.next(Instant::now(), false, 0), Next::Receive(2));
}

#[test]
fn a_full_worker_reads_nothing() {
    let mut state = State::new(2, LEASE);
    hold(&mut state, &[1, 2]);
    assert_eq!(state.next(Instant::now(), false, 0), Next::Rest);
    state.ended(run(1), Outcome::Closed(Close::Completed), Instant::now());
    assert_eq!(state.next(Instant::now(), false, 0), Next::Receive(1));
}

#[test]
fn surplus_beyond_the_free_slots_is_handed_back_at_once() {
    let mut state = State::new(2, LEASE);
    state.next(Instant::now(), false, 0);
    let sorted = state.received((1..=4).map(delivery).collect(), 1, just_now(), |_| true);
    assert_eq!(sorted.claim, [delivery(1), delivery(2)]);
    assert_eq!(sorted.settle.release, [(ticket(3), ReleaseDelay::None), (ticket(4), ReleaseDelay::None)]);
}

#[test]
fn a_run_of_another_workflow_is_never_claimed() {
    let mut state = State::new(2, LEASE);
    state.next(Instant::now(), false, 0);
    let sorted = state.received(vec![delivery(1)], 1, just_now(), |_| false);
    assert!(sorted.claim.is_empty() && sorted.settle.ack.is_empty());
    assert_eq!(sorted.settle.release, [(ticket(1), ReleaseDelay::After(UNSERVED_DELAY))]);
}

#[test]
fn an_owned_run_comes_back_when_its_lease_has_lapsed() {
    let mut state = State::new(2, LEASE);
    state.next(Instant::now(), false, 0);
    let sorted = state.received(vec![delivery(1), delivery(2)], 1, just_now(), |_| true);
    let owned = |secs| ClaimOutcome::Owned { remaining: Duration::from_secs(secs) };
    let sorted = state.claimed(sorted.claim, 1, vec![owned(25), owned(500)], Duration::ZERO);
    assert!(sorted.start.is_empty() && sorted.settle.ack.is_empty());
    let delays: Vec<_> = sorted.settle.release.iter().map(|(_, delay)| *delay).collect();
    assert_eq!(delays, [ReleaseDelay::After(Duration::from_secs(25)), ReleaseDelay::After(LEASE)]);
}

#[test]
fn the_delivery_that_is_held_is_ignored_and_another_of_its_run_comes_later() {
    let mut state = State::new(4, LEASE);
    hold(&mut state, &[1]);
    state.next(Instant::now(), false, 0);
    let other = Delivery { receipt: Receipt("again".into()), ..delivery(1) };
    let sorted = state.received(vec![delivery(1), other], 1, just_now(), |_| true);
    assert!(sorted.claim.is_empty() && sorted.start.is_empty());
    assert!(sorted.settle.ack.is_empty(), "it may announce what comes after the present pass");
    let again = Ticket { generation: 1, receipt: Receipt("again".into()) };
    assert_eq!(sorted.settle.release, [(again, ReleaseDelay::After(DUPLICATE_DELAY))]);
    // The first one is settled when the run ends.
    assert_eq!(state.ended(run(1), Outcome::Closed(Close::Suspended), Instant::now()).settle.ack, [ticket(1)]);
}

#[test]
fn one_run_twice_in_a_batch_is_claimed_once() {
    let mut state = State::new(4, LEASE);
    state.next(Instant::now(), false, 0);
    let twice = Delivery { receipt: Receipt("twice".into()), ..delivery(1) };
    let sorted = state.received(vec![delivery(1), twice], 1, just_now(), |_| true);
    assert_eq!(sorted.claim, [delivery(1)]);
    assert_eq!(sorted.settle.release.len(), 1);
}

/// A claim of a run that is held comes in.
fn claim_anew(state: &mut State, n: u128, epoch: u64, sent: Instant) -> Sorted {
    assert!(matches!(state.next(sent, false, 0), Next::Receive(_)));
    let receipt = Receipt(format!("r{n}/{epoch}"));
    let delivery = Delivery { receipt, claimed: Some(claim(n, epoch)), ..delivery(n) };
    state.received(vec![delivery], 1, (sent, sent), |_| true)
}

#[test]
fn a_newer_claim_of_a_held_run_waits_until_the_old_pass_has_ended() {
    let mut state = State::new(4, LEASE);
    hold(&mut state, &[1]);
    let now = Instant::now();
    let sorted = claim_anew(&mut state, 1, 8, now);
    assert!(sorted.start.is_empty(), "two passes of one run");
    assert_eq!((sorted.lost, sorted.settle), (vec![run(1)], Settlement::default()));
    // A newer one still takes its place; what was overtaken goes back; what stands changes nothing.
    let sorted = claim_anew(&mut state, 1, 9, now);
    assert_eq!(sorted.settle.hand_back, [ClaimRef { run: run(1), epoch: 8 }]);
    assert_eq!(claim_anew(&mut state, 1, 6, now).settle.hand_back, [ClaimRef { run: run(1), epoch: 6 }]);
    assert_eq!(claim_anew(&mut state, 1, 9, now), Sorted::default());

    let ended = state.ended(run(1), Outcome::Closed(Close::Lost), now);
    assert_eq!(ended.settle.ack, [ticket(1)]);
    assert!(ended.settle.hand_back.is_empty());
    assert_eq!(ended.next.unwrap().claimed.epoch, 9);
    assert_eq!(state.held(), 1);
    let ended = state.ended(run(1), Outcome::Interrupted, now);
    assert_eq!(ended.settle.hand_back, [ClaimRef { run: run(1), epoch: 9 }]);
}

#[test]
fn a_claim_that_waited_for_half_its_lease_is_given_back() {
    let mut state = State::new(4, LEASE);
    hold(&mut state, &[1]);
    let sent = Instant::now();
    claim_anew(&mut state, 1, 8, sent);
    let ended = state.ended(run(1), Outcome::Closed(Close::Lost), sent + LEASE / 2);
    assert_eq!(ended.next, None, "its lease may lapse before it is prolonged");
    assert_eq!(ended.settle.hand_back, [ClaimRef { run: run(1), epoch: 8 }]);
    assert_eq!(state.held(), 0);
}

#[test]
fn a_claim_that_waits_goes_back_at_the_stop_and_keeps_its_subscription_till_then() {
    let mut state = State::new(4, LEASE);
    hold(&mut state, &[1]);
    let now = Instant::now();
    state.next(now, false, 0);
    let newer = Delivery { claimed: Some(claim(1, 8)), ..delivery(1) };
    state.received(vec![newer], 2, (now, now), |_| true);
    assert!(state.uses(1) && state.uses(2));
    assert_eq!(state.close().hand_back, [ClaimRef { run: run(1), epoch: 8 }]);
    assert!(!state.uses(2));
    assert_eq!(state.ended(run(1), Outcome::Closed(Close::Lost), now).next, None);
}

#[test]
fn claims_that_come_with_deliveries_start_at_once() {
    let mut state = State::new(1, LEASE);
    state.next(Instant::now(), false, 0);
    let claimed = |n| Delivery { claimed: Some(claim(n, 3)), ..delivery(n) };
    let sorted = state.received(vec![claimed(1), claimed(2)], 1, just_now(), |_| true);
    assert_eq!(sorted.start.len(), 1);
    assert_eq!(sorted.settle.hand_back, [ClaimRef { run: run(2), epoch: 3 }]);
    assert_eq!(state.next(Instant::now(), false, 0), Next::Rest);
}

#[test]
fn a_claim_that_was_answered_after_half_its_lease_is_given_back_unused() {
    let just_in_time = LEASE / 2 - Duration::from_millis(1);
    for (waited, starts) in [(just_in_time, 1), (LEASE / 2, 0), (LEASE * 2, 0)] {
        let mut state = State::new(1, LEASE);
        state.next(Instant::now(), false, 0);
        let sorted = state.received(vec![delivery(1)], 1, just_now(), |_| true);
        let by_claim = state.claimed(sorted.claim, 1, vec![granted(1)], waited);

        let mut state = State::new(1, LEASE);
        let sent = Instant::now();
        state.next(sent, false, 0);
        let claimed = Delivery { claimed: Some(claim(1, 7)), ..delivery(1) };
        let with_delivery = state.received(vec![claimed], 1, (sent, sent + waited), |_| true);
        for sorted in [by_claim, with_delivery] {
            assert_eq!((sorted.start.len(), sorted.late.len()), (starts, 1 - starts), "after {waited:?}");
            let back = if starts == 0 { vec![ClaimRef { run: run(1), epoch: 7 }] } else { Vec::new() };
            assert_eq!(sorted.settle.hand_back, back);
            assert_eq!(sorted.settle.release.len(), 1 - starts);
            assert!(sorted.settle.ack.is_empty(), "it announces the run to whoever is next");
        }
        assert_eq!(state.held(), starts);
    }
}

#[test]
fn an_interrupted_run_goes_back_with_its_claim() {
    let mut state = State::new(1, LEASE);
    hold(&mut state, &[1]);
    let settle = state.ended(run(1), Outcome::Interrupted, Instant::now()).settle;
    assert!(settle.ack.is_empty());
    assert_eq!(settle.hand_back, [ClaimRef { run: run(1), epoch: 7 }]);
    assert_eq!(settle.release, [(ticket(1), ReleaseDelay::None)]);
    assert_eq!(state.ended(run(1), Outcome::Interrupted, Instant::now()), Ended::default(), "settled twice");
}

#[test]
fn what_is_granted_after_the_stop_is_given_back() {
    let mut state = State::new(2, LEASE);
    state.next(Instant::now(), false, 0);
    let sorted = state.received(vec![delivery(1)], 1, just_now(), |_| true);
    state.close();
    let sorted = state.claimed(sorted.claim, 1, vec![granted(1)], Duration::ZERO);
    assert!(sorted.start.is_empty());
    assert_eq!(sorted.settle.hand_back.len(), 1);
    assert_eq!(state.held(), 0);
    assert_eq!(state.next(Instant::now(), false, 0), Next::Rest);
}

#[test]
fn a_failed_claim_puts_everything_back_and_waits() {
    let mut state = State::new(2, LEASE);
    state.next(Instant::now(), false, 0);
    let sorted = state.received(vec![delivery(1)], 1, just_now(), |_| true);
    let (now, delay) = (Instant::now(), Duration::from_secs(3));
    let settle = state.claim_failed(sorted.claim, 1, now, delay);
    assert_eq!(settle.release, [(ticket(1), ReleaseDelay::After(delay))]);
    assert_eq!(state.failures(), 1);
    assert_eq!(state.next(now, false, 0), Next::Wait(now + delay));
    assert_eq!(state.next(now + delay, false, 0), Next::Receive(2));
}

#[test]
fn a_claim_answered_too_shortly_loses_nothing() {
    let mut state = State::new(2, LEASE);
    state.next(Instant::now(), false, 0);
    let sorted = state.received(vec![delivery(1), delivery(2)], 1, just_now(), |_| true);
    let sorted = state.claimed(sorted.claim, 1, vec![granted(1)], Duration::ZERO);
    assert_eq!(sorted.start.len(), 1);
    assert_eq!(sorted.settle.release.len(), 1);
}

#[test]
fn unsettled_deliveries_hold_intake_up() {
    let mut state = State::new(2, LEASE);
    assert_eq!(state.next(Instant::now(), false, MAX_UNSETTLED + 1), Next::Rest);
    assert_eq!(state.next(Instant::now(), false, MAX_UNSETTLED), Next::Receive(2));
}

#[test]
fn a_paused_worker_reads_nothing() {
    let mut state = State::new(2, LEASE);
    assert_eq!(state.next(Instant::now(), true, 0), Next::Rest);
    assert_eq!(state.next(Instant::now(), false, 0), Next::Receive(2));
}
