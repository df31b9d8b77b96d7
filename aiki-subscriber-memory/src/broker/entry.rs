//! One run in the queue.

use aiki_core::RunId;
use aiki_core::subscriber::Receipt;
use tokio::time::Instant;

use super::ListenerId;
use super::stream::StreamId;

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) stream: StreamId,
    pub(super) lane: usize,
    pub(super) place: Place,
    /// Announced again while it was held.
    pub(super) again: bool,
}

/// Where a run is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place {
    /// In its stream.
    Queued,
    /// Not to be delivered before its time.
    Delayed { key: (Instant, u64) },
    /// With a subscriber.
    Held(Hold),
}

/// A subscriber's hold on a run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hold {
    pub(super) by: ListenerId,
    /// The number of the delivery.
    pub(super) delivery: u64,
    /// The key in the order of renewals.
    pub(super) turn: u64,
    pub(super) renewed: Instant,
}

/// Characters of a run id.
const ID_LEN: usize = 26;

/// The receipt of a delivery: `<run>.<number of the delivery>`.
pub(super) fn receipt(run: RunId, delivery: u64) -> Receipt {
    Receipt(format!("{run}.{delivery}"))
}

/// The run and the number in a receipt; `None` for a receipt that is not of this queue's making.
pub(super) fn read_receipt(receipt: &Receipt) -> Option<(RunId, u64)> {
    let (run, rest) = receipt.0.split_at_checked(ID_LEN)?;
    Some((run.parse().ok()?, rest.strip_prefix('.')?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_receipts_are_not_understood() {
        let run = RunId::from_bits(77 << 24);
        assert_eq!(read_receipt(&receipt(run, 12)), Some((run, 12)));
        for text in ["", "x", "1-0", "ÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄ", &run.to_string(), &format!("{run}.x")]
        {
            assert_eq!(read_receipt(&Receipt(text.into())), None, "{text}");
        }
    }
}
