//! Real processes and real stores. Never published.
