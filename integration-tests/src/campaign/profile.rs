//! The fast profile: how long things last here.

use std::time::Duration;

/// C: a claim and a delivery that nobody prolongs.
pub const LEASE: Duration = Duration::from_millis(2_000);
/// H: between two heartbeats.
pub const HEARTBEAT: Duration = Duration::from_millis(500);
/// S: between two looks for abandoned deliveries. A quarter of the lease.
pub const SWEEP: Duration = Duration::from_millis(500);
/// B: how long a read waits.
pub const BLOCK: Duration = Duration::from_millis(200);
/// How long a stop waits for runs.
pub const GRACE: Duration = Duration::from_millis(1_000);
/// How long the answer to a request may take.
pub const REQUEST: Duration = Duration::from_millis(1_000);
/// What the last fault may need to be over, on a machine that does other things as well.
pub const PATIENCE: Duration = Duration::from_secs(120);
