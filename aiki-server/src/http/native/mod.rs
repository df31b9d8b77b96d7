//! The procedures that only this implementation speaks (`docs/wire-protocol.md`).

use super::procedure::Procedure;

/// All of them.
pub(super) fn procedures() -> Vec<Procedure> {
    Vec::new()
}
