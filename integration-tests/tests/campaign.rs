//! The fault campaign at the size of a change: 1,000 runs, 40 faults. A longer one is a command, see `docs/reliability.md`.
//!
//! `AIKI_CAMPAIGN_SEED` repeats a campaign: it is printed at the beginning and with every violation.

use std::process::Command;

const CAMPAIGN: &str = env!("CARGO_BIN_EXE_campaign");
/// Started by the campaign, which looks for it beside itself.
const SERVER: &str = env!("CARGO_BIN_EXE_server-program");

#[test]
fn forty_faults_of_every_kind_cost_no_run_and_repeat_nothing_without_a_reason() {
    assert!(std::path::Path::new(SERVER).exists());
    let seed = std::env::var("AIKI_CAMPAIGN_SEED").ok();
    let seed = seed.iter().flat_map(|seed| ["--seed", seed]);
    let flags = ["--runs", "1000", "--tasks", "5", "--workers", "3", "--faults", "40", "--seconds", "55"];
    let status = Command::new(CAMPAIGN).args(flags).args(seed).status();
    let status = status.unwrap_or_else(|error| panic!("{CAMPAIGN}: {error}"));
    assert!(status.success(), "the campaign ended with {status}: what is wrong stands above, with its seed");
}
