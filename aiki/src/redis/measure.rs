//! The health of subscriptions as gauges.

use std::collections::BTreeMap;
use std::time::Duration;

use aiki_subscriber_redis::{Health, RedisStreams};

/// Records how the live subscriptions are doing, as gauges with the label `worker`: the configured id.
/// Call it before each look at the recorder, or now and then.
///
/// They are counts of the live subscriptions: a subscription that ends takes its own with it.
pub fn measure(streams: &RedisStreams) {
    let mut workers: BTreeMap<String, Vec<Health>> = BTreeMap::new();
    for health in streams.health() {
        // The part behind the colon is new with each start.
        let id = health.worker.split(':').next().unwrap_or_default().to_owned();
        workers.entry(id).or_default().push(health);
    }
    for (worker, healths) in workers {
        let sum = |of: fn(&Health) -> u64| healths.iter().map(of).sum::<u64>() as f64;
        let longest = |of: fn(&Health) -> Duration| healths.iter().map(of).max().unwrap_or_default().as_secs_f64();
        let set = |name: &'static str, value: f64| metrics::gauge!(name, "worker" => worker.clone()).set(value);
        let rebuilt = |cause: &'static str, value: f64| {
            metrics::gauge!("aiki_redis_connections_rebuilt", "worker" => worker.clone(), "cause" => cause).set(value);
        };
        rebuilt("lost", sum(|health| health.connections_lost));
        rebuilt("abandoned", sum(|health| health.connections_abandoned));
        set("aiki_redis_groups_recreated", sum(|health| health.groups_recreated));
        set("aiki_redis_dead_letters", sum(|health| health.dead_letters));
        set("aiki_redis_entries_taken_over", sum(|health| health.taken_over));
        set("aiki_redis_entries_held", sum(|health| health.held as u64));
        set("aiki_redis_broken_streams", sum(|health| health.broken_streams.len() as u64));
        set("aiki_redis_in_trouble", sum(|health| u64::from(health.trouble.is_some())));
        set("aiki_redis_loop_tick_age_seconds", longest(|health| health.since_tick));
    }
}
