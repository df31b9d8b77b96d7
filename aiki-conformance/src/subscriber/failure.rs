//! How a case fails.

/// What a case found wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{case}: {reason}")]
pub struct CaseFailure {
    /// The case, by the name of its function.
    pub case: &'static str,
    /// What was expected and what came.
    pub reason: String,
}

/// The outcome of a case.
pub type CaseResult = Result<(), CaseFailure>;
