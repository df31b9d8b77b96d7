//! The suite for subscriber implementations.
