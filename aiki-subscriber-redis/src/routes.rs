//! Which connection a publisher uses for which hash slot.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::classify::Failure;
use crate::health::Counters;
use crate::link::{Link, Role};
use crate::place::{Node, Place, parse_moved};
use crate::timing::Timing;
use crate::url::RedisUrl;

/// Nodes of a cluster that there may be connections to.
const MAX_NODES: usize = 1_000;

/// A connection to the server of the URL and, on a cluster, to each node that was heard of. Nothing is asked
/// beforehand: whoever asks the wrong node is told the right one.
pub(crate) struct Routes {
    url: RedisUrl,
    timing: Timing,
    seed: (Node, Link),
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// At most as many as there are hash slots.
    nodes: HashMap<u16, Node>,
    links: HashMap<Node, Link>,
}

impl Routes {
    /// On the calling runtime.
    pub(crate) fn new(url: RedisUrl, timing: Timing) -> Self {
        let seed = (url.node(), keep(&url, url.node(), timing));
        Self { url, timing, seed, state: Mutex::default() }
    }

    /// No step under the lock can panic halfway, so a poisoned lock guards a sound state.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection to the server of the URL.
    pub(crate) fn seed(&self) -> Link {
        self.seed.1.clone()
    }

    /// The node to ask. When the one that had the slot is away, another one that may know more.
    pub(crate) fn of(&self, slot: u16) -> (Node, Link) {
        let state = self.lock();
        let link = |node: &Node| if *node == self.seed.0 { Some(&self.seed.1) } else { state.links.get(node) };
        let known = state.nodes.get(&slot).and_then(|node| Some((node.clone(), link(node)?.clone())));
        let lives = |(_, link): &(Node, Link)| link.live().is_ok();
        let others = state.links.iter().map(|(node, link)| (node.clone(), link.clone()));
        known.into_iter().chain([self.seed.clone()]).chain(others).find(lives).unwrap_or_else(|| self.seed.clone())
    }

    /// A node said where a slot is. From now on that is asked. Fails when it is the same place, or away; a new connection
    /// is waited for.
    pub(crate) async fn moved(&self, failure: Failure, asked: &Node) -> Result<(), Failure> {
        let Some((slot, node)) = parse_moved(&failure.text, &asked.host).filter(|(_, node)| node != asked) else {
            return Err(failure);
        };
        let link = {
            let mut state = self.lock();
            if state.links.len() >= MAX_NODES && !state.links.contains_key(&node) {
                return Err(failure);
            }
            state.nodes.insert(slot, node.clone());
            if node == self.seed.0 {
                self.seed()
            } else {
                let new = || keep(&self.url, node.clone(), self.timing);
                state.links.entry(node.clone()).or_insert_with(new).clone()
            }
        };
        link.first(self.timing.command()).await.map(drop)
    }
}

fn keep(url: &RedisUrl, node: Node, timing: Timing) -> Link {
    Link::keep(url.clone(), Place::one(node), timing, Role::Control, Arc::new(Counters::new()))
}
