//! The orchestrator of Aiki as a library: state machine, stores, timers and announcements.
