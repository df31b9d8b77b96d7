//! Making the runtime's time virtual.

use std::time::{Duration, Instant};

use tokio::runtime::{Handle, RuntimeFlavor};

/// Why an environment did not start. Each text says what to do.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EnvError {
    /// There is no tokio runtime here.
    #[error("a test environment needs a tokio runtime: make the test a `#[tokio::test] async fn`")]
    NoRuntime,
    /// The runtime has several threads: their time cannot be virtual.
    #[error(
        "a test environment makes time virtual, and that takes a runtime of one thread: write `#[tokio::test]` without \
         `flavor = \"multi_thread\"`"
    )]
    SeveralThreads,
    /// The server or a worker did not start.
    #[error("the test environment did not start: {0}")]
    Start(String),
}

aiki_core::debug_as_display!(EnvError);

/// Longer than any measurement of a clock that runs takes to show it.
const A_MOMENT: Duration = Duration::from_micros(20);

/// Makes the time of the current runtime virtual, unless it is already.
pub(crate) fn make_virtual() -> Result<(), EnvError> {
    let runtime = Handle::try_current().map_err(|_| EnvError::NoRuntime)?;
    if runtime.runtime_flavor() != RuntimeFlavor::CurrentThread {
        return Err(EnvError::SeveralThreads);
    }
    if !stands_still() {
        tokio::time::pause();
    }
    Ok(())
}

/// Whether tokio's time is virtual: it does not say so itself.
fn stands_still() -> bool {
    let (before, began) = (tokio::time::Instant::now(), Instant::now());
    while began.elapsed() < A_MOMENT {
        std::hint::spin_loop();
    }
    tokio::time::Instant::now() == before
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn time_that_runs_is_stopped_once() {
        assert!(!stands_still());
        assert_eq!(make_virtual(), Ok(()));
        assert!(stands_still());
        assert_eq!(make_virtual(), Ok(()), "a second environment in the same test");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn a_runtime_of_several_threads_is_refused_with_the_remedy() {
        let error = make_virtual().unwrap_err().to_string();
        assert!(error.contains("without `flavor = \"multi_thread\"`"), "{error}");
    }

    #[test]
    fn a_plain_test_is_told_what_it_lacks() {
        assert_eq!(make_virtual(), Err(EnvError::NoRuntime));
    }
}
