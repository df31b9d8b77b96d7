//! Events and ends of children that come while a pass is under way.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use aiki_core::replay::Pass;
use aiki_core::run::record::Signal;
use aiki_core::{RunId, ServerClient, ServerError};
use futures::future::BoxFuture;
use tokio::time::{Sleep, sleep};

use crate::active::Watch;
use crate::trace;

/// After a question that failed the next one comes so much later.
const PAUSE: Duration = Duration::from_secs(1);

type Fetch = BoxFuture<'static, (u32, Result<Vec<Signal>, ServerError>)>;

/// Brings signals to the pass when it waits for some. What it does not see here it sees in its next
/// pass: the server does not suspend a run over signals that its worker has not seen.
pub(super) struct Signals<'a> {
    server: Arc<dyn ServerClient>,
    run: RunId,
    watch: &'a Watch,
    fetch: Option<Fetch>,
    /// Until then nothing is asked: the last question failed.
    pause: Option<Pin<Box<Sleep>>>,
    /// There may be signals that the pass does not know.
    pub(super) behind: bool,
}

impl<'a> Signals<'a> {
    /// A signal may have come between the claim and its arrival here, when nobody was told of it: a pass
    /// that waits beside a body asks once.
    pub(super) fn new(server: Arc<dyn ServerClient>, run: RunId, watch: &'a Watch) -> Self {
        Self { server, run, watch, fetch: None, pause: None, behind: true }
    }

    /// Whether there is something to ask that nothing else leads back to.
    pub(super) fn owes(&self, pass: &Pass) -> bool {
        self.behind && self.fetch.is_none() && self.pause.is_none() && pass.awaits_signals()
    }

    /// Asks for signals when there are some, and hands over what has come.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, pass: &mut Pass) {
        self.behind |= self.watch.take_news(cx.waker());
        if let Some(pause) = &mut self.pause {
            if pause.as_mut().poll(cx).is_pending() {
                return;
            }
            self.pause = None;
        }
        if self.owes(pass) {
            self.behind = false;
            let (server, run, known) = (self.server.clone(), self.run, pass.known_signals());
            self.fetch = Some(Box::pin(async move { (known, server.get_signals(run, known).await) }));
        }
        let Some(fetch) = &mut self.fetch else { return };
        let Poll::Ready((known, answer)) = fetch.as_mut().poll(cx) else { return };
        self.fetch = None;
        match answer {
            Ok(signals) => pass.deliver(known, signals),
            Err(error) => {
                trace::signals_not_read(self.run, &error);
                self.behind = true;
                let mut pause = Box::pin(sleep(PAUSE));
                if pause.as_mut().poll(cx).is_pending() {
                    self.pause = Some(pause);
                }
            }
        }
    }
}
