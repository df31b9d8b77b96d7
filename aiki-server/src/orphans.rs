//! Claims that did not outlive the server's last process.

use aiki_core::{RunId, ServerError, Timestamp};

use crate::lane::LaneHandle;
use crate::operation::TakeBackOrphans;
use crate::readers::Readers;

/// At most so many runs are taken back in one commit.
const BATCH_LIMIT: usize = 512;

/// Makes the runs ready again that workers of the last process held, without waiting for their leases.
pub(crate) async fn take_back(readers: &Readers, lane: &LaneHandle) -> Result<usize, ServerError> {
    let mut after = (Timestamp::EPOCH, RunId::from_bits(0));
    let mut count = 0;
    loop {
        let held = readers.read(move |store| store.held(after, BATCH_LIMIT)).await?;
        let Some((last, _)) = held.last() else { return Ok(count) };
        after = *last;
        let runs = held.into_iter().map(|((_, run), namespace)| (namespace, run)).collect();
        count += lane.call(TakeBackOrphans { runs }).await?;
    }
}
