//! How much goes into one call, and how many calls are made at once.

use futures::{StreamExt, stream};

/// At most so many claims or receipts are named in one call. The server refuses lists of more than
/// 1,000.
pub(crate) const MAX_ITEMS: usize = 500;

/// At most so many calls of one kind are under way at once.
const MAX_CALLS: usize = 8;

/// Makes all these calls. The answers come in any order.
pub(crate) async fn call_all<F: Future>(calls: impl IntoIterator<Item = F>) -> Vec<F::Output> {
    // Collected first: a stream over a closure that borrows is not `Send` enough for a task.
    let calls: Vec<F> = calls.into_iter().collect();
    stream::iter(calls).buffer_unordered(MAX_CALLS).collect().await
}
