//! One Redis, or a cluster, and where in it each pool is.

use aiki_core::{Name, Subscription};
use fred::types::Value;

use crate::classify::{Failure, Trouble};
use crate::key;
use crate::link::{Link, command};
use crate::place::{Place, Range, parse_slots};
use crate::url::RedisUrl;

/// What one loop can read at once.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) subscription: Subscription,
    pub(crate) place: Place,
}

/// Asks what there is, over a connection to the server of the URL. A cluster is named by its slots.
pub(crate) async fn slots(link: &Link, url: &RedisUrl) -> Result<Option<Vec<Range>>, Failure> {
    let ask =
        |name, words: &'static str| link.ask(move |client| async move { command(&client, name, vec![words]).await });
    let info = match ask("INFO", "cluster").await {
        Ok(info) => info.into_string().unwrap_or_default(),
        // Something that speaks like Redis and has no clusters.
        Err(failure) if failure.trouble == Trouble::Other => return Ok(None),
        Err(failure) => return Err(failure),
    };
    if !info.contains("cluster_enabled:1") {
        return Ok(None);
    }
    let answer: Value = ask("CLUSTER", "SLOTS").await?;
    let ranges = parse_slots(answer, &url.node().host);
    if ranges.is_empty() {
        return Err(Failure::new(Trouble::Busy, format!("no node of the cluster behind {url} has hash slots yet")));
    }
    Ok(Some(ranges))
}

/// One part in all, or on a cluster one for each pool, at the node that has its hash slot.
pub(crate) fn parts(url: &RedisUrl, slots: Option<&[Range]>, subscription: Subscription) -> Vec<Part> {
    let Some(slots) = slots else {
        return vec![Part { subscription, place: Place::one(url.node()) }];
    };
    let mut pools: Vec<Option<Name>> = subscription.pools.iter().cloned().map(Some).collect();
    if pools.is_empty() {
        pools.push(None);
    }
    let mut seen = Vec::new();
    pools.retain(|pool| {
        !seen.contains(pool) && {
            seen.push(pool.clone());
            true
        }
    });
    let part = |pool: Option<Name>| {
        let slot = key::slot(&subscription.namespace, pool.as_ref());
        let owner = slots.iter().find(|range| (range.first..=range.last).contains(&slot));
        let node = owner.map_or_else(|| url.node(), |range| range.node.clone());
        let others = slots.iter().map(|range| range.node.clone());
        Part {
            subscription: Subscription { pools: pool.into_iter().collect(), ..subscription.clone() },
            place: Place::among(url.node(), &node, others),
        }
    };
    pools.into_iter().map(part).collect()
}

#[cfg(test)]
mod tests {
    use aiki_core::WorkflowKey;

    use super::*;
    use crate::place::Node;

    #[test]
    fn every_pool_is_a_part_at_the_node_that_has_its_slot_and_none_comes_twice() {
        let url = RedisUrl::new("seed", 6379);
        let subscription = Subscription {
            worker: Name::new("worker"),
            namespace: Name::new("acme"),
            workflows: vec![WorkflowKey::user("a", "1")],
            pools: vec![Name::new("gpu"), Name::new("arm"), Name::new("gpu")],
        };
        assert_eq!(parts(&url, None, subscription.clone()).len(), 1);

        let node = |port| Node { host: "n".into(), port };
        let arm = key::slot(&subscription.namespace, Some(&Name::new("arm")));
        let slots = [
            Range { first: 0, last: arm - 1, node: node(1) },
            Range { first: arm, last: arm, node: node(2) },
            Range { first: arm + 1, last: 16_383, node: node(3) },
        ];
        let parts = parts(&url, Some(&slots), subscription);
        assert_eq!(parts.len(), 2);
        assert_eq!(parts[1].subscription.pools, [Name::new("arm")]);
        assert_eq!(parts[1].place.node(), node(2));
        assert_ne!(parts[0].place.node(), node(2));
    }
}
