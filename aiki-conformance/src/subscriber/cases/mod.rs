//! The cases, each a function named after what must hold. It takes a fresh
//! [`Harness`](super::Harness) and says what is wrong with the backend, if anything.
//!
//! Calls that are answered with
//! [`SubscriberError::Unavailable`](aiki_core::SubscriberError::Unavailable) are repeated after
//! `next_delay`, and a case takes a delivery that comes twice for one. Exceptions say so under
//! *Exact*; they are left out under [`Faults`](super::Faults).

mod ack;
mod cancel;
mod deliver;
mod end;
mod fair;
mod lease;
mod limit;
mod release;
mod scope;
mod share;

pub use ack::{ack_of_an_unknown_receipt_is_ignored, ack_of_anothers_delivery_is_ignored, acked_runs_never_come_again};
pub use cancel::a_dropped_receive_loses_nothing;
pub use deliver::{
    a_run_published_again_after_ack_is_delivered_again, a_run_published_again_while_held_is_delivered_again,
    a_run_published_before_anybody_subscribed_is_delivered, a_run_published_twice_is_not_lost,
    a_waiting_receive_is_woken_by_a_publish, an_empty_receive_returns_without_error, delivers_a_published_run_once,
};
pub use end::{
    a_crashed_subscribers_runs_go_to_another, a_waiting_receive_is_woken_by_close, close_hands_back_at_once,
    receive_after_close_is_closed,
};
pub use fair::{
    a_flood_of_high_priority_starves_nobody, a_flooded_stream_does_not_starve_the_others, high_priority_goes_first,
};
pub use lease::{
    a_zombie_does_not_steal_its_delivery_back, heartbeat_answers_mine_others_and_gone, heartbeats_keep_a_delivery,
    silence_moves_a_delivery_to_another,
};
pub use limit::{the_limit_holds_on_one_stream, the_limit_holds_over_many_streams};
pub use release::{a_delayed_release_is_not_delivered_early, a_released_run_is_available_at_once};
pub use scope::{
    other_namespaces_are_not_delivered, other_pools_are_not_delivered, other_versions_are_not_delivered,
    other_workflows_are_not_delivered,
};
pub use share::{similar_worker_names_do_not_disturb_each_other, two_subscribers_never_hold_the_same_run};
