//! Waiting for whichever of two comes first.

use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

/// Which of two came first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Either<A, B> {
    /// The first one.
    Left(A),
    /// The second one.
    Right(B),
}

/// Waits for whichever comes first and drops the other: a wait or a sleep that is dropped is over, the
/// body of a task is dropped, a child goes on.
///
/// The winner is on record together with its result, because a run's steps are handed to its handler
/// one at a time and in a recorded order. So replay decides as the first pass did, also for
/// `tokio::select!` or `futures::select!` over durable futures. When both are ready at the same moment,
/// which happens only to sleeps that are due together, the first one wins.
///
/// ```
/// use std::time::Duration;
/// use aiki_core::{Either, Event, Failure, Run, Workflow, race};
///
/// const PAID: Event<u64> = Event::new("paid");
/// let trial = Workflow::new("trial").version("1.0.0", |run: Run, (): ()| async move {
///     let fortnight = Duration::from_secs(14 * 24 * 3600);
///     match race(run.event(&PAID), run.sleep("trial", fortnight)).await {
///         Either::Left(cents) => Ok::<_, Failure>(cents),
///         Either::Right(_) => Ok(0),
///     }
/// });
/// # let _ = trial.event(&PAID);
/// ```
pub async fn race<A: Future, B: Future>(left: A, right: B) -> Either<A::Output, B::Output> {
    let (mut left, mut right) = (pin!(left), pin!(right));
    std::future::poll_fn(move |cx| poll_both(left.as_mut(), right.as_mut(), cx)).await
}

fn poll_both<A: Future, B: Future>(
    left: Pin<&mut A>,
    right: Pin<&mut B>,
    cx: &mut Context<'_>,
) -> Poll<Either<A::Output, B::Output>> {
    if let Poll::Ready(output) = left.poll(cx) {
        return Poll::Ready(Either::Left(output));
    }
    right.poll(cx).map(Either::Right)
}
