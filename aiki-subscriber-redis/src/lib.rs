//! Redis Streams subscriber and publisher for Aiki.
//!
//! [`RedisStreams`] is what a worker is given as its [`SubscriberFactory`](aiki_core::SubscriberFactory),
//! [`RedisPublisher`] what a server is given as its [`Publisher`](aiki_core::Publisher). Both keep the promises
//! that the suite in `aiki-conformance` tests. Redis 6.2 or later, standalone, behind one address, or a cluster.
//!
//! ```no_run
//! use aiki_core::{Name, SubscriberFactory, Subscription, WorkflowKey};
//! use aiki_subscriber_redis::{RedisPublisher, RedisStreams, RedisUrl};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let url: RedisUrl = "redis://localhost:6379".parse()?;
//! let publisher = RedisPublisher::new(url.clone()); // for the server
//!
//! // What a worker does:
//! let subscriber = RedisStreams::new(url)
//!     .subscribe(Subscription {
//!         worker: Name::new("worker-1:5f1c"),
//!         namespace: Name::new("default"),
//!         workflows: vec![WorkflowKey::user("orders", "1.0.0")],
//!         pools: vec![],
//!     })
//!     .await?;
//! let deliveries = subscriber.receive(8).await?;
//! # Ok(())
//! # }
//! ```
//!
//! # What is in Redis
//!
//! Hints, and nothing that the server lacks. Redis may be lost at any moment; only time is lost with it.
//!
//! * One stream for each workflow version, pool and priority:
//!   `aiki:wf:{<namespace>/<pool>}:<source>:<workflow>:<version>[:high|:low]`, names percent-encoded. Runs without a
//!   pool are in the pool `default`.
//! * One group on every stream, `aiki-workers`, made from the first entry on. The consumer is the worker's name, which
//!   is unique per process start.
//! * Entries have the fields `v` (`1`) and `run` (the run's id), never the payload. An entry is deleted when it is
//!   acknowledged. One that cannot be read goes to `aiki:dead:{<namespace>/<pool>}` with the reason.
//!
//! # How it reads
//!
//! Each subscription has a thread with three connections: one for reads that wait, one for everything else, one for
//! PINGs. A handler that blocks the program's runtime stops none of them. One loop does all that takes entries:
//!
//! * As long as there is a backlog, a script takes exactly as many entries as `receive` has room for: higher priorities
//!   first, a lower one after [`BURST`] in a row, the streams of a priority in turn.
//! * Otherwise one `XREADGROUP ... BLOCK` waits on all streams at once. Nothing is read while nobody is in `receive`. An
//!   entry beyond the room goes back to the end of its stream at once, where waiting readers find it.
//! * A dropped `receive` loses nothing: what was read for it goes to the next one, or back after the block time.
//! * Every C/4 (C is the lease, `claim_min_idle_time`) the loop looks for entries that nobody has renewed for C, and takes
//!   over as many as there is room for. Entries that were handed back are found in the same way.
//! * After a reconnect, and after an answer that took longer than C/4, Redis may have stood still and every entry look
//!   abandoned. Then the loop first renews what is its own, and for C/3 takes over only what was handed back. So it does at its beginning.
//! * An answer that was lost leaves entries in this consumer's pending list. They are looked for after every
//!   reconnect and delivered.
//!
//! # What it needs
//!
//! Rights for a user of its own:
//!
//! ```text
//! ACL SETUSER aiki on >secret ~aiki:* -@all +ping +select +info +hello +quit +client|id +client|unblock
//!     +xadd +xreadgroup +xgroup +xclaim +xpending +xack +xdel +xtrim +xrange +xinfo +evalsha +eval +script|load
//! ```
//!
//! On a cluster also `+cluster|slots`, and on every node.
//!
//! `maxmemory-policy noeviction`: another one may evict whole streams. What was published is then announced again by
//! the server, later. A warning and [`Health::eviction_policy`] say so when it is another one.
//!
//! # On a cluster
//!
//! A pool's streams are in one hash slot. Each pool of a subscription has a loop and three connections of its own, to the
//! node that has the slot; `receive` gets the deliveries of all. Who is told `MOVED` connects there; whose node is gone asks
//! the others, so a replica that takes over is found. While a node is away the pools on the others go on, and
//! [`Health::trouble`] names it. While a slot is being moved, its runs wait.
//!
//! * Two loops whose reads wait may both bring what only one of them was asked for. The surplus waits for the next
//!   `receive`, at most for the block time, and then goes back.
//! * Priorities hold within a pool, not between pools.
//! * To begin a subscription needs the nodes of all its pools. While one is away, a heartbeat, an acknowledgement or a
//!   release that has a delivery of it fails, after it was done for the deliveries on the other nodes.
//!
//! # What it does not do
//!
//! * Sentinel: use an address that follows the primary.
//! * A release with a delay longer than C comes after C.
//! * Without the right to run scripts (`EVALSHA`, `EVAL`, `SCRIPT LOAD`) it does not run; the subscription says so.

mod broker;
mod chance;
mod classify;
mod eviction;
mod health;
mod intake;
mod io;
mod key;
mod link;
mod message;
mod options;
mod place;
mod publisher;
mod pump;
mod redis_streams;
mod routes;
mod script;
mod streams;
mod subscriber;
mod timing;
mod tls;
mod topology;
mod url;

pub use health::Health;
#[doc(hidden)]
pub use message::read_entry;
pub use options::{RedisStreamsOptions, RedisStreamsOptionsError};
pub use publisher::RedisPublisher;
pub use redis_streams::RedisStreams;
pub use url::{RedisUrl, RedisUrlError};

/// After so many deliveries of one priority in a row, a waiting delivery of a lower one has its turn.
pub const BURST: u32 = 16;
