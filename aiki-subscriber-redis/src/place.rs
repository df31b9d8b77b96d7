//! Where in a cluster something is.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fred::types::Value;

/// Nodes of a cluster that are remembered.
const MAX_NODES: usize = 1_000;

/// The address of one server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Node {
    pub(crate) host: String,
    pub(crate) port: u16,
}

/// Where connections go that belong together: to the server of the URL, or in a cluster to whichever node has the hash
/// slot of one pool. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Place(Arc<Mutex<Nodes>>);

#[derive(Debug)]
struct Nodes {
    known: Vec<Node>,
    at: usize,
}

/// Hash slots, both ends included, and the node that has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) first: u16,
    pub(crate) last: u16,
    pub(crate) node: Node,
}

impl Place {
    /// At the server of the URL.
    pub(crate) fn one(url: Node) -> Self {
        Self(Arc::new(Mutex::new(Nodes { known: vec![url], at: 0 })))
    }

    /// At this node of a cluster. The others are asked when it does not answer.
    pub(crate) fn among(url: Node, node: &Node, others: impl IntoIterator<Item = Node>) -> Self {
        let mut known = vec![url];
        for other in std::iter::once(node.clone()).chain(others).take(MAX_NODES) {
            if !known.contains(&other) {
                known.push(other);
            }
        }
        let at = known.iter().position(|known| known == node).unwrap_or_default();
        Self(Arc::new(Mutex::new(Nodes { known, at })))
    }

    /// No step under the lock can panic halfway, so a poisoned lock guards a sound state.
    fn lock(&self) -> MutexGuard<'_, Nodes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn node(&self) -> Node {
        let nodes = self.lock();
        nodes.known[nodes.at].clone()
    }

    /// A node said that another one has it: `MOVED <slot> <host>:<port>`.
    pub(crate) fn moved(&self, text: &str) {
        let mut nodes = self.lock();
        let Some((_, node)) = parse_moved(text, &nodes.known[nodes.at].host) else { return };
        nodes.at = match nodes.known.iter().position(|known| *known == node) {
            Some(at) => at,
            None => {
                // The first is the one of the URL. It stays.
                if nodes.known.len() >= MAX_NODES {
                    nodes.known.truncate(1);
                }
                nodes.known.push(node);
                nodes.known.len() - 1
            }
        };
    }

    /// A node cannot be reached: the next one will know who has what it had.
    pub(crate) fn unreachable(&self, node: &Node) {
        let mut nodes = self.lock();
        if nodes.known[nodes.at] == *node {
            nodes.at = (nodes.at + 1) % nodes.known.len();
        }
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (open, close) = if self.host.contains(':') { ("[", "]") } else { ("", "") };
        write!(f, "{open}{}{close}:{}", self.host, self.port)
    }
}

/// The slot and the node of `MOVED <slot> <host>:<port>`. Without a host it is the host that was asked.
pub(crate) fn parse_moved(text: &str, asked: &str) -> Option<(u16, Node)> {
    let mut words = text.strip_prefix("MOVED ")?.split_whitespace();
    let slot = words.next()?.parse().ok()?;
    let (host, port) = words.next()?.rsplit_once(':')?;
    let host = if host.is_empty() { asked } else { host };
    Some((slot, Node { host: host.to_owned(), port: port.parse().ok()? }))
}

/// The answer to `CLUSTER SLOTS`: `[[first, last, [host, port, ...], replicas...], ...]`.
pub(crate) fn parse_slots(answer: Value, asked: &str) -> Vec<Range> {
    let range = |value: Value| {
        let mut parts = value.into_array().into_iter();
        let (first, last) = (parts.next()?.as_u64()?, parts.next()?.as_u64()?);
        let mut primary = parts.next()?.into_array().into_iter();
        // Nil or nothing: the host that was asked; `?`: the node does not know.
        let host = primary.next()?.into_string().filter(|host| !host.is_empty() && host != "?");
        let port = primary.next()?.as_u64()?;
        Some(Range {
            first: u16::try_from(first).ok()?,
            last: u16::try_from(last).ok()?,
            node: Node { host: host.unwrap_or_else(|| asked.to_owned()), port: u16::try_from(port).ok()? },
        })
    };
    answer.into_array().into_iter().filter_map(range).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(port: u16) -> Node {
        Node { host: "a".into(), port }
    }

    #[test]
    fn who_has_moved_is_followed_and_who_is_gone_is_left() {
        let place = Place::among(node(1), &node(2), [node(2), node(1)]);
        assert_eq!(place.node(), node(2));
        place.moved("MOVED 3999 a:3");
        assert_eq!(place.node(), node(3));
        place.moved("MOVED 3999 :2");
        assert_eq!(place.node(), node(2));
        for nonsense in ["MOVED", "MOVED x a:1", "MOVED 1 a", "MOVED 1 a:x", "ASK 1 a:1"] {
            place.moved(nonsense);
            assert_eq!(place.node(), node(2), "{nonsense}");
        }
        place.unreachable(&node(1));
        assert_eq!(place.node(), node(2), "somebody else's news is old");
        place.unreachable(&node(2));
        place.unreachable(&node(3));
        assert_eq!(place.node(), node(1));
    }

    #[test]
    fn hosts_of_all_kinds_are_understood() {
        let moved = parse_moved("MOVED 12 fd00::1:7000", "h").unwrap();
        assert_eq!(moved, (12, Node { host: "fd00::1".into(), port: 7000 }));
        assert_eq!(moved.1.to_string(), "[fd00::1]:7000");
        let row = |first: i64, last: i64, host: Value| {
            let primary = Value::Array(vec![host, 7000.into(), "id".into()]);
            Value::Array(vec![first.into(), last.into(), primary])
        };
        let answer = vec![row(0, 99, "a".into()), row(100, 200, Value::Null), row(-1, 200, "a".into()), Value::Null];
        let ranges = parse_slots(Value::Array(answer), "h");
        let range = |first, last, host: &str| Range { first, last, node: Node { host: host.into(), port: 7000 } };
        assert_eq!(ranges, [range(0, 99, "a"), range(100, 200, "h")]);
    }
}
