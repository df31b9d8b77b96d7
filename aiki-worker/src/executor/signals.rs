//! Events and ends of children that come while a pass is under way.

use std::sync::Arc;
use std::task::{Context, Poll};

use aiki_core::replay::Pass;
use aiki_core::run::record::Signal;
use aiki_core::{RunId, ServerClient, ServerError};
use futures::future::BoxFuture;

use crate::active::Watch;
use crate::trace;

type Fetch = BoxFuture<'static, (u32, Result<Vec<Signal>, ServerError>)>;

/// Brings signals to the pass when it waits for some. What it does not see here it sees in its next
/// pass: the server does not suspend a run over signals that its worker has not seen.
pub(super) struct Signals<'a> {
    server: Arc<dyn ServerClient>,
    run: RunId,
    watch: &'a Watch,
    fetch: Option<Fetch>,
    /// There are signals that the pass does not know.
    pub(super) behind: bool,
}

impl<'a> Signals<'a> {
    pub(super) fn new(server: Arc<dyn ServerClient>, run: RunId, watch: &'a Watch) -> Self {
        Self { server, run, watch, fetch: None, behind: false }
    }

    /// Asks for signals when there are some, and hands over what has come.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, pass: &mut Pass) {
        self.behind |= self.watch.take_news(cx.waker());
        if self.fetch.is_none() && self.behind && pass.awaits_signals() {
            self.behind = false;
            let (server, run, known) = (self.server.clone(), self.run, pass.known_signals());
            self.fetch = Some(Box::pin(async move { (known, server.get_signals(run, known).await) }));
        }
        let Some(fetch) = &mut self.fetch else { return };
        let Poll::Ready((known, answer)) = fetch.as_mut().poll(cx) else { return };
        self.fetch = None;
        match answer {
            Ok(signals) => pass.deliver(known, signals),
            // The next signal or pass tries again.
            Err(error) => trace::signals_not_read(self.run, &error),
        }
    }
}
