//! The suite finds what is wrong: each broken queue fails the case that is named after its trouble.

#[path = "broken/flaw.rs"]
mod flaw;

use aiki_conformance::subscriber::cases;
use flaw::{Flaw, failed_case, harness};

macro_rules! found_by {
    ($($test:ident: $flaw:ident fails $case:ident,)*) => {$(
        #[tokio::test(start_paused = true)]
        async fn $test() {
            let result = cases::$case(&harness(Flaw::$flaw)).await;
            assert_eq!(failed_case(result), Ok(stringify!($case)));
        }
    )*};
}

found_by! {
    acks_on_receive: AcksOnReceive fails silence_moves_a_delivery_to_another,
    acks_on_receive_and_dies: AcksOnReceive fails a_crashed_subscribers_runs_go_to_another,
    loses_what_a_dropped_receive_took: LosesWhatADroppedReceiveTook fails a_dropped_receive_loses_nothing,
    renews_without_owner_check: RenewsWithoutOwnerCheck fails a_zombie_does_not_steal_its_delivery_back,
    tells_losers_that_they_hold: RenewsWithoutOwnerCheck fails heartbeat_answers_mine_others_and_gone,
    never_renews: NeverRenews fails heartbeats_keep_a_delivery,
    never_acks: NeverAcks fails acked_runs_never_come_again,
    forgets_the_delay: ForgetsTheDelay fails a_delayed_release_is_not_delivered_early,
    never_releases: NeverReleases fails a_released_run_is_available_at_once,
    closes_without_handing_back: ClosesWithoutHandingBack fails close_hands_back_at_once,
    never_closes: NeverCloses fails receive_after_close_is_closed,
    waits_through_its_close: NeverCloses fails a_waiting_receive_is_woken_by_close,
    exceeds_the_limit: ExceedsTheLimit fails the_limit_holds_on_one_stream,
    exceeds_the_limit_over_streams: ExceedsTheLimit fails the_limit_holds_over_many_streams,
    fails_when_empty: FailsWhenEmpty fails an_empty_receive_returns_without_error,
    waits_forever: WaitsForever fails an_empty_receive_returns_without_error,
    delivers_twice: DeliversTwice fails delivers_a_published_run_once,
    ignores_the_version: IgnoresTheVersion fails other_versions_are_not_delivered,
    ignores_the_priority: IgnoresThePriority fails high_priority_goes_first,
    announces_only_once: AnnouncesOnlyOnce fails a_run_published_again_after_ack_is_delivered_again,
    forgets_an_announcement_while_held: AnnouncesOnlyOnce fails a_run_published_again_while_held_is_delivered_again,
}
