//! Known bugs, to see that they are found.

/// Something that no part may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// Reports under a claim that is gone are written all the same, as if there were no fence.
    NoFence,
    /// Deliveries are acknowledged when they are received.
    EarlyAck,
    /// The store loses the end of a history when the server restarts.
    LostPage,
    /// A start is acknowledged that was never stored.
    LostCreate,
    /// Claims come without the result that was recorded last.
    StaleRecord,
    /// Every start is a new run, whatever its reference id.
    NoKeys,
    /// Workers hear nothing of ready runs, and their own questions are answered with none.
    NoDelivery,
}
