//! The worker of Aiki: receives ready runs, claims them, replays their handlers and reports.
