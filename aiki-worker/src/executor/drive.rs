//! Driving one pass: poll the handler, send what it brings forward, wait.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use aiki_core::replay::{Close, Pass, PassStep};
use aiki_core::{Clock, Timestamp, run::FailureCause};
use aiki_core::{ErrorObject, ExecutionScope, Failure, Outcome, Report, RunId, ServerError, Transition, WorkflowKey};
use tokio::task::coop;
use tokio::time::{Instant, Sleep, sleep_until};

use super::clock::PassClock;
use super::quiet::Handler;
use super::reporting::{Answer, close_of};
use super::signals::Signals;
use super::{ReplayExecutor, clean_up};
use crate::active::Watch;
use crate::trace;

/// So many steps in a row, then other tasks of the runtime get their turn.
const STEP_BUDGET: u32 = 128;
/// A wait for a point in time looks at the clock again after this long: clocks may be set.
const LONGEST_NAP: Duration = Duration::from_secs(5);
/// How long a handler may wait for something that is not durable before it deserves a warning.
const FOREIGN_WAIT: Duration = Duration::from_secs(1);

/// One pass under way.
pub(super) struct Drive<'a> {
    pub(super) executor: &'a ReplayExecutor,
    pub(super) run: RunId,
    pub(super) epoch: u64,
    pub(super) workflow: WorkflowKey,
    pub(super) scope: ExecutionScope,
    pub(super) watch: &'a Watch,
    pub(super) handler: Handler<'a>,
    pub(super) pass: Pass,
    pub(super) clock: Arc<PassClock>,
    /// The pass has got beyond what is on record: bodies may be under way.
    pub(super) live: bool,
}

/// Why the driving ended.
enum End {
    Closed(Close),
    Lost,
    Interrupted,
    Refused(ServerError),
}

/// The last report that was made.
#[derive(Clone, Copy, Default)]
struct Last {
    seq: u64,
    close: Option<Close>,
}

impl Drive<'_> {
    pub(super) async fn run(mut self) -> Outcome {
        let (executor, scope) = (self.executor, self.scope.clone());
        let (mut lost, mut interrupted) = (scope.lost.cancelled(), scope.interrupted.cancelled());
        let send = |report| executor.send(report, &scope);
        let mut sending = pin!(empty(&send));
        let mut alarm: Pin<&mut Option<Sleep>> = pin!(None);
        let mut waiting = Waiting::default();
        let mut signals = Signals::new(executor.server.clone(), self.run, self.watch);
        let mut last = Last::default();
        let end = poll_fn(|cx| {
            if Pin::new(&mut lost).poll(cx).is_ready() {
                return Poll::Ready(End::Lost);
            }
            if Pin::new(&mut interrupted).poll(cx).is_ready() {
                return Poll::Ready(End::Interrupted);
            }
            let mut ask = true;
            for _ in 0..STEP_BUDGET {
                if ask
                    && let Some(answer) = sending.as_mut().as_pin_mut()
                    && let Poll::Ready(answer) = answer.poll(cx)
                {
                    sending.set(None);
                    self.watch.set_closing(false);
                    match answer {
                        Answer::Written(receipt) => {
                            signals.behind |= receipt.signals > self.pass.known_signals();
                            self.pass.accepted(&receipt);
                        }
                        Answer::Lost => return Poll::Ready(End::Lost),
                        Answer::Refused(error) => return Poll::Ready(End::Refused(error)),
                        Answer::GivenUp => return Poll::Ready(End::Interrupted),
                    }
                }
                ask = false;
                signals.poll(cx, &mut self.pass);
                match self.poll_pass(cx) {
                    PassStep::Again if coop::has_budget_remaining() => {}
                    PassStep::Again => break,
                    PassStep::Close(close) => return Poll::Ready(End::Closed(close)),
                    PassStep::Report(report) => {
                        waiting.durable(self.watch);
                        last = Last { seq: report.seq, close: close_of(&report) };
                        self.watch.set_closing(last.close.is_some());
                        sending.set(Some(send(report)));
                        ask = true;
                    }
                    PassStep::Wait { until, stuck } => {
                        self.watch.set_last_call(self.pass.last_call());
                        if signals.owes(&self.pass) {
                            continue;
                        }
                        if self.foreign_wait(&mut waiting, stuck) {
                            continue;
                        }
                        let Some(at) = waiting.deadline(until, stuck, executor, &self.clock) else {
                            return Poll::Pending;
                        };
                        if alarm.as_ref().as_pin_ref().is_none_or(|alarm: Pin<&Sleep>| alarm.deadline() != at) {
                            alarm.set(Some(sleep_until(at)));
                        }
                        if alarm.as_mut().as_pin_mut().is_none_or(|alarm: Pin<&mut Sleep>| alarm.poll(cx).is_pending())
                        {
                            return Poll::Pending;
                        }
                        alarm.set(None);
                        waiting.armed = None;
                    }
                }
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
        // Once the handler has returned there are no bodies.
        self.live &= last.close.is_none();
        // Nothing is written after a loss, so a report under way is dropped before bodies clean up.
        if matches!(end, End::Lost | End::Refused(_)) {
            sending.set(None);
            self.clean_up(executor.lost_clean_up, None).await;
        }
        match end {
            End::Closed(close) => Outcome::Closed(close),
            End::Lost => Outcome::Closed(Close::Lost),
            End::Refused(error) => self.refused(last.seq + 1, error).await,
            End::Interrupted => {
                let answer = async {
                    // An answer that is on its way is waited for: the worker limits how long.
                    let close = last.close?;
                    let answer = sending.as_mut().as_pin_mut()?.await;
                    matches!(answer, Answer::Written(_)).then_some(close)
                };
                let (closed, ()) = tokio::join!(answer, self.clean_up(clean_up::STOPPED, Some(&scope.lost)));
                closed.map_or(Outcome::Interrupted, Outcome::Closed)
            }
        }
    }

    pub(super) fn poll_pass(&mut self, cx: &mut Context<'_>) -> PassStep {
        let silent = self.pass.is_silent();
        let step = self.handler.surround(silent, || self.pass.poll(cx));
        self.live |= !matches!(step, PassStep::Again);
        step
    }

    /// Looks whether the handler has waited too long for something that is not durable. Whether the
    /// run was failed for it.
    fn foreign_wait(&mut self, waiting: &mut Waiting, stuck: bool) -> bool {
        if !stuck {
            waiting.durable(self.watch);
            return false;
        }
        let since = *waiting.stuck_since.get_or_insert_with(Instant::now);
        if waiting.told || since.elapsed() < FOREIGN_WAIT {
            return false;
        }
        waiting.told = true;
        self.watch.set_foreign_wait(true);
        let place = trace::place(self.pass.last_call());
        if !std::mem::replace(&mut waiting.warned, true) {
            trace::foreign_wait(self.run, &self.workflow, &place);
        }
        if self.executor.fail_foreign_waits {
            let text = format!("the handler waits for something that is not durable; its last durable call: {place}");
            self.pass.fail(Failure::non_retryable("ForeignWait", text));
        }
        self.executor.fail_foreign_waits
    }

    /// The server does not take what the handler brought forward: the run fails with that error.
    async fn refused(self, seq: u64, error: ServerError) -> Outcome {
        trace::report_refused(self.run, &error);
        let object = ErrorObject::from_error("ReportRefused", &error);
        let failed = Transition::Failed { cause: FailureCause::Own(object) };
        let report = Report {
            run: self.run,
            epoch: self.epoch,
            seq,
            signals: self.pass.known_signals(),
            transitions: vec![failed],
        };
        let answer = tokio::select! {
            biased;
            answer = self.executor.send(report, &self.scope) => answer,
            () = self.scope.lost.cancelled() => Answer::Lost,
        };
        match answer {
            Answer::Written(_) => Outcome::Closed(Close::Failed),
            Answer::Lost => Outcome::Closed(Close::Lost),
            Answer::Refused(error) => {
                trace::report_given_up(self.run, &error);
                Outcome::Interrupted
            }
            Answer::GivenUp => Outcome::Interrupted,
        }
    }
}

/// Room for the future that `send` makes.
fn empty<F: Future>(_send: &impl Fn(Report) -> F) -> Option<F> {
    None
}

/// What a pass waits for besides its waker.
#[derive(Default)]
struct Waiting {
    /// Since when the handler has waited for something that is not durable.
    stuck_since: Option<Instant>,
    /// The present wait of that kind shows.
    told: bool,
    /// The pass has had its warning.
    warned: bool,
    /// The time for which the alarm is set, and when it rings.
    armed: Option<(Option<Timestamp>, bool, Instant)>,
}

impl Waiting {
    /// Something durable moves.
    fn durable(&mut self, watch: &Watch) {
        if self.stuck_since.take().is_some() {
            watch.set_foreign_wait(false);
            self.told = false;
        }
    }

    /// When to look again; `None`: not before something happens. Stays the same while the pass waits
    /// for the same, so that the timer is not set anew at every poll.
    fn deadline(
        &mut self,
        until: Option<Timestamp>,
        stuck: bool,
        executor: &ReplayExecutor,
        clock: &PassClock,
    ) -> Option<Instant> {
        let watched = stuck && !self.told;
        if let Some((for_until, for_stuck, at)) = self.armed
            && (for_until, for_stuck) == (until, watched)
        {
            return Some(at);
        }
        let nap = |nap: Duration| if executor.clock.keeps_timers() { nap } else { nap.min(LONGEST_NAP) };
        let due = until.map(|until| Instant::now() + nap(until.since(clock.now())));
        let warn = self.stuck_since.filter(|_| watched).map(|since| since + FOREIGN_WAIT);
        let at = match (due, warn) {
            (Some(due), Some(warn)) => due.min(warn),
            (due, warn) => due.or(warn)?,
        };
        self.armed = Some((until, watched, at));
        Some(at)
    }
}
