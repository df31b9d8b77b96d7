//! The fault campaign at the size of a change: 1,000 runs, 40 faults. A longer one is a command, see `docs/reliability.md`.
//! And campaigns over products with a bug, which have to find it.
//!
//! `AIKI_CAMPAIGN_SEED` repeats a campaign: it is printed at the beginning and with every violation.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::process::{Command, ExitStatus};

const CAMPAIGN: &str = env!("CARGO_BIN_EXE_campaign");
/// Started by the campaign, which looks for it beside itself.
const SERVER: &str = env!("CARGO_BIN_EXE_server-program");

fn campaign(flags: &[&str]) -> ExitStatus {
    assert!(std::path::Path::new(SERVER).exists());
    let status = Command::new(CAMPAIGN).args(flags).status();
    status.unwrap_or_else(|error| panic!("{CAMPAIGN}: {error}"))
}

#[test]
fn forty_faults_of_every_kind_cost_no_run_and_repeat_nothing_without_a_reason() {
    let mut flags = vec!["--runs", "1000", "--tasks", "5", "--workers", "3", "--faults", "40", "--seconds", "55"];
    let seed = std::env::var("AIKI_CAMPAIGN_SEED").ok();
    flags.extend(seed.iter().flat_map(|seed| ["--seed", seed]));
    let status = campaign(&flags);
    assert!(status.success(), "the campaign ended with {status}: what is wrong stands above, with its seed");
}

/// A small campaign over a product with this bug, or with none. Answers its code and what it found to be wrong.
fn found(bug: Option<&str>) -> (Option<i32>, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    let (report, kept) = (folder.path().join("report.json"), folder.path().join("kept"));
    let (report, kept) = (report.to_str().unwrap(), kept.to_str().unwrap());
    let mut flags = vec!["--runs", "100", "--tasks", "3", "--task-ms", "20", "--workers", "2", "--seconds", "4"];
    flags.extend(["--seed", "1", "--faults", "3", "--only", "worker_killed,flushed,duplicated"]);
    flags.extend(["--report", report, "--keep", kept]);
    flags.extend(bug.iter().flat_map(|bug| ["--broken", bug]));
    let status = campaign(&flags);
    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap();
    (status.code(), serde_json::from_value(report["violations"].clone()).unwrap())
}

/// This bug has to be found, as this.
fn finds(bug: &str, violation: &str) {
    let (code, wrong) = found(Some(bug));
    assert_eq!(code, Some(1));
    assert!(wrong.iter().any(|wrong| wrong.contains(violation)), "not found as {violation}: {wrong:#?}");
}

#[test]
fn the_small_campaign_finds_nothing_where_there_is_no_bug() {
    assert_eq!(found(None), (Some(0), vec![]));
}

#[test]
fn a_delivery_that_is_acknowledged_when_it_is_received_is_found() {
    finds("early_ack", "before the server had said anything");
}

#[test]
fn a_result_that_is_sent_again_as_another_report_is_found_although_the_server_refuses_it() {
    finds("double_record", "and sent again by");
}

#[test]
fn a_body_that_begins_after_its_result_was_recorded_is_found() {
    finds("late_body", "after its record");
}

#[test]
fn a_start_that_is_acknowledged_and_never_stored_is_found() {
    finds("lost_create", "I1 ");
}

#[test]
fn a_claim_without_the_last_result_is_found() {
    finds("stale_record", "I3 ");
}

#[test]
fn a_wrong_answer_is_found() {
    finds("wrong_answer", "it should answer");
}

#[test]
fn a_password_in_a_log_is_found() {
    finds("logged_secret", "has the password of Redis");
}
