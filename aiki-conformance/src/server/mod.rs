//! The suite for server implementations.
