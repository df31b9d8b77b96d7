//! The client passes the suite of servers on a server of the plain contract, as far as the contract goes.

use crate::support::OverHttp;

/// Cases that the contract makes impossible, by the reason.
const LEFT_OUT: &[(&str, &[&str])] = &[
    (
        "the contract knows no priorities",
        &["create::a_new_run_is_queued_and_announced", "claim::ready_runs_come_by_urgency_and_then_by_age"],
    ),
    (
        "the contract tells only the id of a start: of those at the same time it is not known which one made the run",
        &["create::concurrent_starts_with_one_reference_make_one_run"],
    ),
    (
        "the contract's record does not tell when a run began, and it has no answer `owned`",
        &["claim::a_claimed_run_is_owned_and_an_ended_one_is_done"],
    ),
    (
        "a run that is `running` may be taken over by whoever it is delivered to: the contract has no answer `owned`",
        &[
            "claim::answers_come_in_the_order_of_the_request",
            "claim::a_claim_whose_answer_was_lost_is_granted_again",
            "claim::a_refreshed_lease_lives_on",
            "timers::a_parked_task_is_ready_for_its_next_attempt",
        ],
    ),
    (
        "a claim lapses after the server's 90 s, whatever lease the worker asks for",
        &[
            "claim::an_expired_lease_is_recovered_and_announced",
            "control::every_command_has_its_places",
            "control::every_run_that_has_not_ended_can_be_cancelled",
            "control::a_run_that_takes_its_workers_down_stalls_and_others_go_on",
        ],
    ),
    (
        "the contract knows no return of a claim: the run sleeps for 1 ms of the server's clock",
        &["claim::a_released_run_is_ready_at_once"],
    ),
    (
        "the contract's server keeps no list of its workers",
        &[
            "claim::workers_are_listed_with_what_they_hold",
            "news::a_worker_that_holds_nothing_yet_is_not_forgotten_while_it_listens",
            "news::a_run_of_a_version_that_nobody_serves_says_so",
            "reading::namespaces_do_not_see_each_other",
        ],
    ),
    (
        "a report is several requests: of one that is refused, the legal beginning is written",
        &["report::an_illegal_report_changes_nothing", "children::a_refused_report_starts_no_child"],
    ),
    (
        "one code says that a request is wrong and that a run or task cannot do it",
        &["report::a_report_over_the_limit_is_refused", "control::results_that_nobody_waits_for_are_refused"],
    ),
    (
        "the contract knows one sleep and one wait at a time: others begin again",
        &[
            "timers::two_sleeps_that_were_joined_end_together",
            "control::a_paused_run_keeps_what_comes_and_goes_on_from_there",
            "control::a_run_that_is_woken_up_ends_its_earliest_sleep",
            "events::several_parked_steps_wake_the_run_one_by_one",
        ],
    ),
    (
        "the contract's record leaves out tasks that were discarded",
        &[
            "timers::a_retry_of_the_run_discards_failed_tasks",
            "control::a_running_run_is_cancelled_and_its_worker_loses_the_claim",
        ],
    ),
    ("an operator's result does not take the run from its worker", &["control::an_operator_gives_a_task_its_result"]),
    (
        "the contract does not tell nothing from null",
        &["control::an_operator_gives_the_result_of_a_task_to_come", "events::an_event_that_cannot_be_used_is_refused"],
    ),
    (
        "the contract's record tells no waits that have taken their event, nor those in progress",
        &["events::an_event_that_comes_early_waits_on_record", "events::an_event_wakes_the_run_that_waits_for_it"],
    ),
    (
        "the contract knows no count of signals: the run sleeps for 1 ms when one has come",
        &[
            "events::an_event_that_races_with_the_suspension_is_not_lost",
            "children::a_child_that_ends_before_the_suspension_is_not_missed",
        ],
    ),
    (
        "what `run.now()` reads has no place in the contract, so it fills no history",
        &[
            "events::a_full_history_refuses_an_event_which_may_come_again",
            "events::a_history_over_its_limit_fails_the_run_and_says_why",
        ],
    ),
    (
        "the record is read with the ends of the children, also those after its own",
        &["children::a_child_outlives_a_parent_that_ended"],
    ),
    (
        "the contract refuses the start of such a child, which fails the parent; it has no child without a run",
        &[
            "children::a_child_is_found_under_its_reference_id",
            "children::twins_under_one_reference_id_are_one_child",
            "children::children_nest_to_a_limit",
        ],
    ),
    (
        "a run that was there already under the reference id is nobody's child in the contract",
        &["children::a_run_is_not_its_own_child", "children::a_run_has_so_many_listeners_and_no_more"],
    ),
    (
        "the contract knows no deadlines",
        &[
            "children::a_child_ends_before_its_parents_deadline",
            "limits::a_deadline_ends_a_run_wherever_it_stands",
            "limits::a_run_that_ends_in_time_has_no_deadline_any_more",
            "limits::a_deadline_in_the_past_is_refused",
        ],
    ),
    ("the contract's record does not tell who cancelled a child", &["children::a_parent_cancels_its_child"]),
    ("the contract knows no checkpoints", &["limits::a_checkpoint_lives_as_long_as_its_task"]),
    (
        "the contract's history only grows: a run cannot continue as new",
        &[
            "limits::a_run_that_continues_as_new_begins_an_empty_history",
            "limits::signals_that_a_worker_has_not_seen_outlive_its_continuing_as_new",
            "news::what_a_worker_does_itself_is_no_news",
        ],
    ),
    (
        "the contract knows no concurrency keys",
        &[
            "limits::runs_of_one_key_go_one_at_a_time_by_urgency_and_age",
            "limits::a_run_that_waits_long_is_not_overtaken_for_ever",
            "limits::a_limit_of_two_lets_two_work",
            "limits::a_holder_that_does_not_work_frees_its_place",
            "limits::a_run_that_was_let_in_and_is_cancelled_lets_the_next_one_in",
            "limits::a_lower_limit_waits_and_keeps_nobody_else_waiting",
            "limits::a_restart_remembers_who_holds_and_who_waits",
            "limits::runs_that_have_to_wait_hide_none_behind_them",
            "limits::a_limit_of_nothing_is_refused",
        ],
    ),
    (
        "the contract knows no news: a worker looks when the run is about to wait",
        &["news::a_worker_hears_at_once_that_it_lost_a_run", "news::a_worker_hears_of_signals_for_the_runs_it_holds"],
    ),
    (
        "the contract's list tells neither pool nor priority, nor when a run began and ended",
        &["listing::a_run_is_listed_where_it_stands", "listing::a_list_shows_what_a_run_was_started_with"],
    ),
    (
        "the contract does not tell in which order steps were settled: there is nothing to replay",
        &["listing::an_exported_run_is_the_run"],
    ),
];

macro_rules! passes {
    ($($group:ident :: $case:ident),+ $(,)?) => {
        aiki_conformance::server_conformance!(only #[tokio::test] OverHttp::plain().await; $($group::$case),+);

        const PASSED: &[&str] = &[$(concat!(stringify!($group), "::", stringify!($case))),+];
    };
}

passes!(
    create::the_same_reference_finds_the_same_run,
    create::a_reference_with_another_input_is_refused,
    create::a_reference_with_another_input_finds_the_run_when_asked_to,
    create::an_older_hash_of_the_same_input_counts_as_equal,
    create::references_belong_to_one_version,
    create::a_delayed_run_is_ready_on_time_and_not_before,
    create::a_payload_over_the_limit_is_refused_before_it_is_stored,
    create::names_and_retries_that_cannot_be_used_are_refused,
    claim::two_workers_fight_and_one_wins,
    claim::an_announced_run_is_left_to_those_who_listen_for_a_second,
    claim::ready_runs_of_other_versions_and_pools_are_left_alone,
    claim::a_refresh_of_a_lost_claim_says_so,
    report::the_old_epoch_is_refused_after_a_reclaim,
    report::a_repeated_report_changes_nothing,
    report::an_older_report_is_out_of_order,
    report::a_whole_run_is_recorded,
    report::a_long_history_comes_back_whole,
    timers::a_sleep_ends_on_time_and_not_before,
    timers::a_ready_run_that_nobody_takes_is_announced_again,
    control::a_sleeping_run_is_cancelled,
    control::an_ended_run_cannot_be_cancelled,
    control::many_runs_are_cancelled_at_once,
    control::pauses_do_not_stall_a_run,
    events::an_event_does_not_end_a_sleep_or_a_pause,
    events::a_reference_id_is_accepted_once_for_each_name,
    events::concurrent_events_with_one_reference_id_count_once,
    events::an_ended_run_takes_no_events,
    events::a_wait_times_out_at_its_millisecond,
    events::signals_are_read_from_where_a_worker_stands,
    children::a_child_is_there_when_its_report_is,
    children::a_repeated_report_starts_no_second_child,
    children::a_parent_is_told_once_however_its_child_ends,
    children::a_cancelled_parent_has_its_children_cancelled,
    children::a_cancelled_parent_without_open_children_needs_no_canceller,
    children::children_are_listed_by_age_and_status,
    children::a_child_belongs_to_its_parents_pool_unless_it_names_one,
    children::a_wait_for_a_child_times_out_at_its_millisecond,
    reading::a_long_poll_wakes_when_the_run_ends,
    reading::a_long_poll_that_times_out_tells_the_state,
    reading::waiting_for_an_ended_run_answers_at_once,
    reading::every_transition_is_listed_in_order,
    reading::unknown_runs_and_references_are_not_found,
    listing::runs_are_listed_in_pages_of_any_size_in_either_order,
    listing::a_list_that_is_read_on_neither_repeats_nor_hides_runs,
    listing::a_list_goes_on_behind_a_run_that_is_not_there,
    listing::an_empty_list_is_a_page_without_runs,
    listing::a_page_has_1_to_1000_entries,
    listing::everything_that_a_filter_says_has_to_fit,
    listing::runs_are_found_by_the_time_of_their_creation,
    listing::runs_are_found_by_what_started_them,
    listing::statuses_are_counted_by_namespace_workflow_and_version,
    listing::workflows_are_listed_from_their_first_use_on,
    listing::namespaces_do_not_see_each_others_lists,
    listing::lists_and_counts_outlive_a_restart,
    schedules::an_interval_fires_in_the_millisecond_that_is_due,
    schedules::a_cron_expression_fires_in_the_millisecond_that_is_due,
    schedules::a_cron_expression_means_the_time_of_its_zone,
    schedules::skip_leaves_occurrences_out_while_the_run_before_goes_on,
    schedules::an_overlap_policy_that_is_not_given_is_skip,
    schedules::cancel_previous_cancels_a_running_run_and_says_why,
    schedules::cancel_previous_sees_to_the_children_too,
    schedules::allow_starts_runs_beside_each_other,
    schedules::allow_catches_up_with_everything_after_a_pause,
    schedules::skip_and_cancel_previous_fire_once_after_a_pause,
    schedules::a_schedule_that_is_paused_or_deactivated_starts_nothing,
    schedules::the_same_definition_is_the_same_schedule,
    schedules::a_deactivated_schedule_comes_back_and_keeps_its_anchor,
    schedules::a_reference_with_another_definition_is_a_conflict,
    schedules::a_reference_is_given_to_a_schedule_without_one,
    schedules::concurrent_activations_of_one_definition_make_one_schedule,
    schedules::a_cron_expression_or_zone_that_cannot_be_used_is_refused_by_its_part,
    schedules::the_runs_of_a_schedule_have_its_options,
    schedules::a_run_that_has_the_reference_of_an_occurrence_stands_for_it,
    schedules::schedules_are_listed_by_age_and_filtered,
    schedules::namespaces_do_not_see_each_others_schedules,
);

#[test]
fn every_case_of_the_suite_is_passed_or_left_out_for_a_reason() {
    let left_out = LEFT_OUT.iter().flat_map(|(_, cases)| *cases).copied();
    let mut named: Vec<&str> = PASSED.iter().copied().chain(left_out).collect();
    let mut all: Vec<&str> = aiki_conformance::server_conformance!(all_names).to_vec();
    named.sort_unstable();
    all.sort_unstable();
    assert_eq!(named, all);
}
