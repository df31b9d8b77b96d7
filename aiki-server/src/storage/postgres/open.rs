//! The connections of a server.

use std::sync::Arc;

use super::READERS;
use super::config::{Options, Target};
use super::link::Link;
use super::peers::PeerLink;
use super::read::PostgresReads;
use super::schema::migrate;
use super::write::PostgresStorage;
use crate::start_error::ServerStartError;
use crate::storage::{Reads, Storage};

/// The lane's connection, those for reading, and the one on which servers talk to each other.
pub(crate) struct Opened {
    pub(crate) storage: Box<dyn Storage>,
    pub(crate) readers: Vec<Box<dyn Reads>>,
    pub(crate) peers: PeerLink,
}

/// Connects and brings the tables up to date. The readers connect when they are needed. Blocks.
pub(crate) fn open(options: &Options) -> Result<Opened, ServerStartError> {
    let target = Arc::new(Target::new(options)?);
    let mut lane = Link::new(Arc::clone(&target))?;
    lane.first(async |client| migrate(client, &target).await)?;
    let mut readers: Vec<Box<dyn Reads>> = Vec::with_capacity(READERS);
    for _ in 0..READERS {
        readers.push(Box::new(PostgresReads(Link::new(Arc::clone(&target))?)));
    }
    Ok(Opened { storage: Box::new(PostgresStorage::new(lane)), readers, peers: PeerLink::new(target) })
}
