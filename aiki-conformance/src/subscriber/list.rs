//! The one list of cases, and the macros that make tests of it.

/// One test for each case of [`cases`](crate::subscriber::cases):
/// `subscriber_conformance!(MyHarness::new())`, or with the attribute that the tests are to have,
/// `subscriber_conformance!(#[tokio::test] MyHarness::connect().await)`.
///
/// The expression makes a new [`Harness`](crate::subscriber::Harness) for each test, inside of its
/// `async fn`. Without an attribute the tests are `#[tokio::test(start_paused = true)]`. Call it once
/// in a module ([example](crate::subscriber)); the crate needs nothing but `tokio` with its `macros`, `rt` and (for paused time) `test-util`
/// features.
#[macro_export]
macro_rules! subscriber_conformance {
    (#[$($test:tt)*] $harness:expr) => {
        $crate::subscriber_conformance_under_faults!(#[$($test)*] $harness);
        // Each of these says under *Exact* why it cannot bear faults.
        $crate::__subscriber_case!(#[$($test)*] $harness;
            delivers_a_published_run_once,
            an_empty_receive_returns_without_error,
            a_waiting_receive_is_woken_by_a_publish,
            a_waiting_receive_is_woken_by_close,
        );
    };
    ($harness:expr) => {
        $crate::subscriber_conformance!(#[tokio::test(start_paused = true)] $harness);
    };
}

/// As [`subscriber_conformance!`](crate::subscriber_conformance), without the cases that count what a transport may do
/// badly: for a backend behind [`FaultySubscribers`](crate::subscriber::FaultySubscribers).
#[macro_export]
macro_rules! subscriber_conformance_under_faults {
    (#[$($test:tt)*] $harness:expr) => {
        $crate::__subscriber_case!(#[$($test)*] $harness;
            a_run_published_before_anybody_subscribed_is_delivered,
            a_run_published_twice_is_not_lost,
            a_run_published_again_after_ack_is_delivered_again,
            a_run_published_again_while_held_is_delivered_again,
            the_limit_holds_on_one_stream,
            the_limit_holds_over_many_streams,
            other_workflows_are_not_delivered,
            other_versions_are_not_delivered,
            other_pools_are_not_delivered,
            other_namespaces_are_not_delivered,
            two_subscribers_never_hold_the_same_run,
            similar_worker_names_do_not_disturb_each_other,
            acked_runs_never_come_again,
            ack_of_an_unknown_receipt_is_ignored,
            ack_of_anothers_delivery_is_ignored,
            silence_moves_a_delivery_to_another,
            heartbeats_keep_a_delivery,
            heartbeat_answers_mine_others_and_gone,
            a_zombie_does_not_steal_its_delivery_back,
            a_released_run_is_available_at_once,
            a_delayed_release_is_not_delivered_early,
            a_dropped_receive_loses_nothing,
            close_hands_back_at_once,
            receive_after_close_is_closed,
            a_crashed_subscribers_runs_go_to_another,
            a_flooded_stream_does_not_starve_the_others,
            high_priority_goes_first,
            a_flood_of_high_priority_starves_nobody,
        );
    };
    ($harness:expr) => {
        $crate::subscriber_conformance_under_faults!(#[tokio::test(start_paused = true)] $harness);
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __subscriber_case {
    (#[$($test:tt)*] $harness:expr; $case:ident, $($rest:tt)*) => {
        #[$($test)*]
        async fn $case() {
            let harness = $harness;
            if let Err(failure) = $crate::subscriber::cases::$case(&harness).await {
                panic!("{failure}");
            }
        }
        $crate::__subscriber_case!(#[$($test)*] $harness; $($rest)*);
    };
    (#[$($test:tt)*] $harness:expr;) => {};
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_case_that_is_not_listed_would_never_run() {
        let list = include_str!("list.rs");
        let files = [
            include_str!("cases/ack.rs"),
            include_str!("cases/cancel.rs"),
            include_str!("cases/deliver.rs"),
            include_str!("cases/end.rs"),
            include_str!("cases/fair.rs"),
            include_str!("cases/lease.rs"),
            include_str!("cases/limit.rs"),
            include_str!("cases/release.rs"),
            include_str!("cases/scope.rs"),
            include_str!("cases/share.rs"),
        ];
        let cases: Vec<_> = files
            .iter()
            .flat_map(|file| file.split("pub async fn ").skip(1))
            .filter_map(|rest| rest.split_once('(').map(|(name, _)| name))
            .collect();
        assert!(cases.len() >= 30, "{cases:?}");
        for case in cases {
            assert!(list.contains(&format!("            {case},\n")), "{case} is missing");
        }
    }
}
