//! Handing an event to a run.

use aiki_core::run::plan::{self, EventRefusal};
use aiki_core::server_client::SendEvent;
use aiki_core::{Name, Payload, ServerError};

use super::Operation;
use crate::lane::{Desk, Edit};

pub(crate) struct ReceiveEvent {
    pub(crate) namespace: Name,
    pub(crate) request: SendEvent,
    /// For an event without a reference id: sent again with the same key, it is not handed over twice.
    pub(crate) key: Option<String>,
    pub(crate) history_limit: u32,
    /// Whether a run that has ended keeps the event, as the plain contract has it.
    pub(crate) late: bool,
}

impl Operation for ReceiveEvent {
    type Answer = ();

    fn touches(&self, runs: &mut Vec<aiki_core::RunId>) {
        runs.push(self.request.run);
    }

    fn size(&self) -> usize {
        self.request.event.data.as_ref().map_or(0, |data: &Payload| data.as_str().len())
    }

    fn plan(&self, desk: &mut Desk<'_>) -> Result<(), ServerError> {
        let SendEvent { run, event } = &self.request;
        let state = &desk.run(&self.namespace, *run)?.head.state;
        if state.is_terminal() && !self.late {
            return Err(ServerError::RunEnded { run: *run, status: state.status() });
        }
        let by_reference =
            event.reference_id.as_ref().map(|reference_id| format!("event:{}:{reference_id}", event.name));
        let mark = by_reference.or_else(|| self.key.as_ref().map(|key| format!("sent:{key}")));
        if let Some(mark) = &mark
            && desk.is_marked(&self.namespace, *run, mark)?
        {
            if self.late && event.reference_id.is_some() {
                desk.edit(&self.namespace, *run, |head, now, entries| {
                    let woken = plan::plain::event_again(head, &event.name, now, entries);
                    if woken { Edit::Changed(()) } else { Edit::Unchanged(()) }
                })?;
            }
            return Ok(());
        }
        let planned = desk.edit(&self.namespace, *run, |head, now, entries| {
            match plan::receive_event(head, event, self.history_limit, self.late, now, entries) {
                Ok(()) => Edit::Changed(Ok(())),
                Err(refusal) => Edit::Unchanged(Err(refusal)),
            }
        })?;
        // One that was refused may be sent again.
        if let (Ok(()), Some(mark)) = (&planned, mark) {
            desk.mark(&self.namespace, *run, mark)?;
        }
        planned.map_err(|refusal| match refusal {
            EventRefusal::Ended(status) => ServerError::RunEnded { run: *run, status },
            EventRefusal::HistoryFull { .. } => ServerError::Invalid(refusal.to_string()),
        })
    }
}
