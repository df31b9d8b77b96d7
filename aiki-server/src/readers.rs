//! Reading beside the lane.

use std::sync::{Arc, Mutex, PoisonError};

use aiki_core::{RunId, ServerError};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use crate::lane::{Lane, LaneHandle};
use crate::storage::{Reads, StorageError, StoredRun};

/// Leads to the store for reading. What was committed is seen. Cloning is cheap.
#[derive(Clone)]
pub(crate) enum Readers {
    /// Through the lane, in the caller's own time.
    Inline(Arc<Mutex<Option<Lane>>>),
    /// On connections of their own, so that reads do not queue behind commits.
    Pool(Arc<Pool>),
}

/// A fixed number of connections for reading.
pub(crate) struct Pool {
    idle: Mutex<Vec<Box<dyn Reads>>>,
    permits: Semaphore,
    runtime: Handle,
}

impl Pool {
    pub(crate) fn new(connections: Vec<Box<dyn Reads>>, runtime: Handle) -> Self {
        let permits = Semaphore::new(connections.len());
        Self { idle: Mutex::new(connections), permits, runtime }
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Box<dyn Reads>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn closed() -> ServerError {
    ServerError::Unavailable("the server was closed".into())
}

impl Readers {
    /// Reads from the store.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&mut dyn Reads) -> Result<T, StorageError> + Send + 'static,
    ) -> Result<T, ServerError> {
        match self {
            Readers::Inline(lane) => LaneHandle::read_inline(lane, read),
            Readers::Pool(pool) => {
                let _permit = pool.permits.acquire().await.map_err(|_| closed())?;
                let own = Arc::clone(pool);
                let job = pool.runtime.spawn_blocking(move || {
                    // Taken and given back here: when the caller goes away the connection does not.
                    let mut connection = own.idle().pop().ok_or_else(closed)?;
                    let answer = read(&mut *connection);
                    own.idle().push(connection);
                    Ok(answer?)
                });
                job.await.unwrap_or_else(|error| Err(ServerError::Internal(format!("a read failed: {error}"))))
            }
        }
    }

    /// A run by its id.
    pub(crate) async fn load(&self, id: RunId) -> Result<Option<StoredRun>, ServerError> {
        Ok(self.read(move |store| store.load(&[id])?.pop().transpose()).await?.flatten())
    }

    /// The pages of a run's history that are not in its row. They never change.
    pub(crate) async fn pages(&self, run: &StoredRun) -> Result<Vec<String>, ServerError> {
        let (id, first, end) = (run.head.id, run.head.first_page, run.pages);
        if first >= end {
            return Ok(Vec::new());
        }
        let pages = self.read(move |store| store.pages(id, first, end)).await?;
        if pages.len() != (end - first) as usize {
            // It may have been removed in between.
            return Err(match self.load(id).await? {
                Some(_) => StorageError::Damaged(format!("run {id} lacks pages of its history")).into(),
                None => ServerError::RunNotFound(id),
            });
        }
        Ok(pages)
    }

    /// Closes the connections. Reads answer that the server was closed from then on.
    pub(crate) fn close(&self) {
        if let Readers::Pool(pool) = self {
            pool.permits.close();
            pool.idle().clear();
        }
    }
}
