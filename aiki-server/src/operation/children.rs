//! The child runs that a report starts and cancels.

use std::collections::HashMap;

use aiki_core::report::ChildStart;
use aiki_core::run::plan::{self, ChildDecision, CreateRun, ReferenceDecision};
use aiki_core::{ErrorObject, Name, Report, ReportReceipt, RunId, ServerError, Transition};

use crate::lane::{Desk, Edit};
use crate::storage::ReferenceKey;

/// What becomes of the children of one report, in order.
#[derive(Default)]
pub(super) struct Children {
    decisions: Vec<ChildDecision>,
    requests: Vec<CreateRun>,
}

fn opened(report: &Report) -> impl Iterator<Item = (u32, &ChildStart)> {
    report.transitions.iter().filter_map(|transition| match transition {
        Transition::ChildOpened { ordinal, start } => Some((*ordinal, &**start)),
        _ => None,
    })
}

impl Children {
    pub(super) fn decide(desk: &mut Desk<'_>, namespace: &Name, report: &Report) -> Result<Self, ServerError> {
        let mut children = Self::default();
        if opened(report).next().is_none() {
            return Ok(children);
        }
        let parent = desk.run(namespace, report.run)?.head.clone();
        let mut taken = HashMap::new();
        for (_, start) in opened(report) {
            let request = plan::child_request(&parent, start);
            let decision = match plan::judge_depth(&parent, start) {
                Ok(()) => decide_one(desk, namespace, &request, &mut taken)?,
                Err(error) => ChildDecision::Refused(error),
            };
            let decision = match decision {
                ChildDecision::Existing { run, .. } if run == parent.id => ChildDecision::Refused(plan::own_child(run)),
                // One that this report starts is not there yet.
                ChildDecision::Existing { run, ended: None }
                    if let Ok(existing) = desk.run(namespace, run)
                        && plan::is_crowded(&existing.head, &parent) =>
                {
                    ChildDecision::Refused(plan::crowded(run))
                }
                decision => decision,
            };
            children.decisions.push(decision);
            children.requests.push(request);
        }
        Ok(children)
    }

    pub(super) fn decisions(&self) -> &[ChildDecision] {
        &self.decisions
    }

    /// Creates the new runs, and has the others tell the parent how they end.
    pub(super) fn start(&self, desk: &mut Desk<'_>, namespace: &Name, report: &Report) -> Result<(), ServerError> {
        for (((ordinal, _), decision), request) in opened(report).zip(&self.decisions).zip(&self.requests) {
            match decision {
                ChildDecision::New(id) => {
                    let mut entries = Vec::with_capacity(3);
                    let mut head = plan::create(request, *id, namespace, desk.now(), &mut entries);
                    plan::adopt(&mut head, &desk.run(namespace, report.run)?.head, ordinal);
                    desk.create(head, &entries);
                }
                ChildDecision::Existing { run, ended: None } => {
                    let parent = desk.run(namespace, report.run)?.head.clone();
                    desk.edit(namespace, *run, |head, _, _| {
                        plan::listen(head, &parent, ordinal);
                        Edit::Changed(())
                    })?;
                }
                ChildDecision::Existing { .. } | ChildDecision::Refused(_) => {}
            }
        }
        Ok(())
    }

    /// Cancels the children that the handler wants to end.
    pub(super) fn cancel(
        &self,
        desk: &mut Desk<'_>,
        namespace: &Name,
        report: &Report,
        receipt: &ReportReceipt,
    ) -> Result<(), ServerError> {
        let started: HashMap<u32, RunId> =
            opened(report).zip(&receipt.children).filter_map(|((ordinal, _), run)| Some((ordinal, (*run)?))).collect();
        for transition in &report.transitions {
            let Transition::ChildCancelled { ordinal, run } = transition else { continue };
            let Some(run) = run.or_else(|| started.get(ordinal).copied()) else { continue };
            let cancelled = desk.edit(namespace, run, |head, now, entries| {
                let explanation = Some("its parent asked for it".to_owned());
                match plan::cancel(head, explanation, now, entries) {
                    Ok(()) => Edit::Changed(()),
                    // It has ended already.
                    Err(_) => Edit::Unchanged(()),
                }
            });
            match cancelled {
                Ok(()) | Err(ServerError::RunNotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// `taken`: reference ids of children of the same report.
fn decide_one(
    desk: &mut Desk<'_>,
    namespace: &Name,
    request: &CreateRun,
    taken: &mut HashMap<ReferenceKey, (RunId, CreateRun)>,
) -> Result<ChildDecision, ServerError> {
    let Some(reference) = &request.reference else { return Ok(ChildDecision::New(desk.next_id())) };
    let key = ReferenceKey::of(namespace, &request.workflow, &reference.id);
    let conflict = |run: RunId| {
        let error = ServerError::ReferenceConflict { reference_id: reference.id.clone(), run };
        ChildDecision::Refused(ErrorObject::new("ReferenceConflict", error.to_string()))
    };
    if let Some((run, first)) = taken.get(&key) {
        return Ok(if first.input_hash == request.input_hash {
            ChildDecision::Existing { run: *run, ended: None }
        } else {
            conflict(*run)
        });
    }
    if let Some(run) = desk.by_reference(&key)? {
        let existing = &desk.run(namespace, run)?.head;
        return Ok(match plan::judge_reference(existing, request) {
            ReferenceDecision::Existing => {
                let ended = existing.state.is_terminal().then(|| existing.state.clone());
                ChildDecision::Existing { run, ended }
            }
            ReferenceDecision::Conflict => conflict(run),
        });
    }
    let run = desk.next_id();
    taken.insert(key, (run, request.clone()));
    Ok(ChildDecision::New(run))
}
