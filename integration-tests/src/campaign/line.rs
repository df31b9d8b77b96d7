//! A worker's line to the server: it notes what it was answered.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use aiki_core::run::plan::CreateRun;
use aiki_core::server_client::{
    ClaimOutcome, ClaimReady, ClaimRef, ClaimRuns, ClaimStatus, ClaimedRun, CreatedRun, ServerLayer,
};
use aiki_core::{Client, Name, Report, ReportReceipt, RunId, ServerClient, ServerError};
use aiki_proof::history::Written;
use async_trait::async_trait;

use super::bug::{Bug, Buggy};
use super::notes::{Note, Notes, monotonic_us};

/// A call that takes longer than this has met a machine that stands still, or a fault.
pub const SLOW: Duration = Duration::from_millis(500);

/// The line.
pub struct Line {
    inner: Arc<dyn ServerClient>,
    notes: Notes,
    bugs: Buggy,
    /// When each report that has no answer yet was first sent.
    sent: Mutex<HashMap<(RunId, u64, u64), u64>>,
}

impl Line {
    /// A client whose answers are noted.
    pub fn client(inner: &Client, notes: Notes, bug: Option<Bug>) -> Client {
        let bugs = Buggy::new(bug);
        Client::new(Line { inner: Arc::clone(inner.server()), notes, bugs, sent: Mutex::default() })
    }

    async fn timed<T>(&self, call: impl Future<Output = T>) -> T {
        let begun = Instant::now();
        let answer = call.await;
        if begun.elapsed() > SLOW {
            self.notes.write(Note::Stalled { ms: begun.elapsed().as_millis() as u64 });
        }
        answer
    }

    fn granted(&self, claimed: &mut ClaimedRun) {
        self.notes.write(Note::Granted { run: claimed.record.id, epoch: claimed.epoch });
        self.bugs.granted(&mut claimed.record);
    }

    fn first_sent(&self, key: (RunId, u64, u64), over: bool) -> u64 {
        let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        match over {
            false => *sent.entry(key).or_insert_with(monotonic_us),
            true => sent.remove(&key).unwrap_or_else(monotonic_us),
        }
    }
}

fn sent(report: &Report) -> Note {
    let ended = Written::of(report).ended.into_iter().map(|(task, _)| task).collect();
    Note::Sent { run: report.run, epoch: report.epoch, seq: report.seq, ended }
}

#[async_trait]
impl ServerLayer for Line {
    fn inner(&self) -> &Arc<dyn ServerClient> {
        &self.inner
    }

    async fn create_run(&self, request: CreateRun) -> Result<CreatedRun, ServerError> {
        match self.bugs.lost_start() {
            Some(id) => Ok(CreatedRun { id, existed: false }),
            None => self.inner.create_run(request).await,
        }
    }

    async fn claim_runs(&self, request: ClaimRuns) -> Result<Vec<ClaimOutcome>, ServerError> {
        let runs = request.runs.clone();
        let mut outcomes = self.timed(self.inner.claim_runs(request)).await?;
        for (run, outcome) in runs.into_iter().zip(&mut outcomes) {
            match outcome {
                ClaimOutcome::Granted(claimed) => self.granted(claimed),
                ClaimOutcome::Done => self.notes.write(Note::Done { run }),
                ClaimOutcome::Owned { .. } => {}
            }
        }
        Ok(outcomes)
    }

    async fn claim_ready(&self, request: ClaimReady) -> Result<Vec<ClaimedRun>, ServerError> {
        let mut claimed = self.timed(self.inner.claim_ready(request)).await?;
        claimed.iter_mut().for_each(|claimed| self.granted(claimed));
        Ok(claimed)
    }

    async fn refresh_runs(
        &self,
        worker: &Name,
        claims: &[ClaimRef],
        lease: Duration,
    ) -> Result<Vec<ClaimStatus>, ServerError> {
        let answers = self.timed(self.inner.refresh_runs(worker, claims, lease)).await?;
        for (claim, _) in claims.iter().zip(&answers).filter(|(_, answer)| **answer == ClaimStatus::Lost) {
            self.notes.write(Note::Lost { run: claim.run, epoch: claim.epoch });
        }
        Ok(answers)
    }

    async fn release_runs(&self, worker: &Name, claims: &[ClaimRef]) -> Result<Vec<ClaimStatus>, ServerError> {
        let answers = self.inner.release_runs(worker, claims).await?;
        for (claim, _) in claims.iter().zip(&answers).filter(|(_, answer)| **answer == ClaimStatus::Held) {
            self.notes.write(Note::Released { run: claim.run, epoch: claim.epoch });
        }
        Ok(answers)
    }

    async fn report(&self, mut report: Report) -> Result<ReportReceipt, ServerError> {
        let (run, epoch, seq, written) = (report.run, report.epoch, report.seq, Written::of(&report));
        self.notes.write(sent(&report));
        self.bugs.sent(&mut report);
        let again = self.bugs.again(&report).filter(|_| !written.closes && !written.ended.is_empty());
        self.first_sent((run, epoch, seq), false);
        let answer = self.timed(self.inner.report(report)).await;
        match &answer {
            Ok(_) => {
                let sent_us = self.first_sent((run, epoch, seq), true);
                let Written { ended, closes } = written;
                self.notes.write(Note::Reported { run, epoch, seq, ended, closes, sent_us });
                if let Some(again) = again {
                    self.notes.write(sent(&again));
                    // Refused by a server that does what it should.
                    let _ = self.inner.report(again).await;
                }
            }
            Err(ServerError::ClaimLost(_)) => {
                self.first_sent((run, epoch, seq), true);
                self.notes.write(Note::Refused { run, epoch });
            }
            Err(_) => {}
        }
        answer
    }
}
