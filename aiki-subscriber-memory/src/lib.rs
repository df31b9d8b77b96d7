//! In-memory subscriber and publisher for Aiki: unit tests and the embedded default.
