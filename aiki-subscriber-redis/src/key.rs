//! The names of keys and groups.

use std::fmt::Write as _;

use aiki_core::{Name, Priority, WorkflowKey};

/// The consumer group of every stream.
pub(crate) const GROUP: &str = "aiki-workers";

/// The consumer that entries belong to that were handed back and that nobody has taken yet. So a worker that
/// leaves holds nothing and can be deleted.
pub(crate) const RETURNED: &str = "aiki-returned";

/// The pool of runs without one.
const DEFAULT_POOL: &str = "default";

/// The lanes, the one that goes first first.
pub(crate) const LANES: [Priority; 3] = [Priority::High, Priority::Normal, Priority::Low];

/// The stream of one workflow version, pool and priority:
/// `aiki:wf:{<namespace>/<pool>}:<source>:<workflow>:<version>[:<lane>]`. The braces keep a pool in one slot of
/// a cluster.
pub(crate) fn stream(namespace: &Name, pool: Option<&Name>, workflow: &WorkflowKey, priority: Priority) -> String {
    let mut key = format!("aiki:wf:{}:{}:", tag(namespace, pool), workflow.source.as_str());
    push_encoded(&mut key, workflow.name.as_str());
    key.push(':');
    push_encoded(&mut key, workflow.version.as_str());
    key.push_str(match priority {
        Priority::High => ":high",
        Priority::Normal => "",
        Priority::Low => ":low",
    });
    key
}

/// Where entries go that cannot be read: `aiki:dead:{<namespace>/<pool>}`.
pub(crate) fn dead_letters(namespace: &Name, pool: Option<&Name>) -> String {
    format!("aiki:dead:{}", tag(namespace, pool))
}

/// The hash slot that a pool's streams are in, if Redis is a cluster.
pub(crate) fn slot(namespace: &Name, pool: Option<&Name>) -> u16 {
    fred::util::redis_keyslot(tag(namespace, pool).as_bytes())
}

fn tag(namespace: &Name, pool: Option<&Name>) -> String {
    let mut tag = String::from("{");
    push_encoded(&mut tag, namespace.as_str());
    tag.push('/');
    push_encoded(&mut tag, pool.map_or(DEFAULT_POOL, Name::as_str));
    tag.push('}');
    tag
}

/// Everything but letters, digits and `. _ -` is percent-encoded, so that no name can look like another one's
/// parts.
fn push_encoded(key: &mut String, name: &str) {
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-') {
            key.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(key, "%{byte:02X}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn keys_are_as_documented() {
        let (namespace, workflow) = (Name::new("acme"), WorkflowKey::user("orders/charge", "1.0.0"));
        assert_eq!(
            stream(&namespace, None, &workflow, Priority::Normal),
            "aiki:wf:{acme/default}:user:orders%2Fcharge:1.0.0"
        );
        assert_eq!(
            stream(&namespace, Some(&Name::new("gpu")), &workflow, Priority::High),
            "aiki:wf:{acme/gpu}:user:orders%2Fcharge:1.0.0:high"
        );
        assert_eq!(dead_letters(&namespace, None), "aiki:dead:{acme/default}");
    }

    proptest! {
        #[test]
        fn different_names_never_share_a_key(
            names in prop::collection::btree_set((".{0,4}", ".{0,4}", "[:/{}%a]{1,4}", "[:/{}%a]{0,4}", 0..3_usize), 1..20)
        ) {
            let keys: BTreeSet<_> = names
                .iter()
                .map(|(namespace, pool, name, version, lane)| {
                    let workflow = WorkflowKey::user(name.as_str(), version.as_str());
                    stream(&Name::new(namespace), Some(&Name::new(pool)), &workflow, LANES[*lane])
                })
                .collect();
            prop_assert_eq!(keys.len(), names.len());
        }
    }
}
