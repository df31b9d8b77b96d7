//! What is to be reported: gathered while the handler is polled, taken a report at a time.

use std::collections::VecDeque;

use super::step::StepId;
use crate::payload::Payload;
use crate::report::Transition;

/// At most so many transitions travel in one report. A fan-out that is wider takes several.
const TRANSITIONS_LIMIT: usize = 500;
/// No more is added to a report whose payloads have so many bytes.
const BYTES_LIMIT: usize = 1_000_000;

/// Transitions in order, each with the step that may execute once it is written.
#[derive(Debug, Default)]
pub(super) struct Draft {
    transitions: VecDeque<(Transition, Option<StepId>)>,
}

impl Draft {
    pub(super) fn push(&mut self, transition: Transition) {
        self.transitions.push_back((transition, None));
    }

    /// The transition that was pushed last lets this step execute.
    pub(super) fn unlocks(&mut self, step: StepId) {
        if let Some((_, unlocked)) = self.transitions.back_mut() {
            *unlocked = Some(step);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.transitions.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.transitions.clear();
    }

    /// The transitions of the next report, and the steps that it unlocks.
    pub(super) fn take_report(&mut self) -> (Vec<Transition>, Vec<StepId>) {
        let mut bytes = 0;
        let fitting = self.transitions.iter().take(TRANSITIONS_LIMIT).take_while(|(transition, _)| {
            let fits = bytes < BYTES_LIMIT;
            bytes += size(transition);
            fits
        });
        let count = fitting.count();
        let mut report = (Vec::with_capacity(count), Vec::new());
        for (transition, unlocked) in self.transitions.drain(..count) {
            report.0.push(transition);
            report.1.extend(unlocked);
        }
        report
    }
}

/// Bytes of payload in a transition.
fn size(transition: &Transition) -> usize {
    let payload = match transition {
        Transition::TaskOpened { input, .. } => input.as_ref(),
        Transition::TaskCompleted { output, .. } | Transition::Completed { output } => output.as_ref(),
        Transition::TaskProgressed { checkpoint, .. } => Some(checkpoint),
        Transition::ChildOpened { start, .. } => start.input.as_ref(),
        Transition::ContinuedAsNew { input, events } => {
            let data = events.iter().filter_map(|event| event.data.as_ref()).chain(input);
            return data.map(|payload| payload.as_str().len()).sum();
        }
        _ => None,
    };
    payload.map_or(0, |payload: &Payload| payload.as_str().len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::RunId;

    fn completed(ordinal: u32, bytes: usize) -> Transition {
        let output = Payload::from_json(format!("\"{}\"", "x".repeat(bytes))).ok();
        Transition::TaskCompleted { id: RunId::from_bits(0).task(ordinal), attempts: 1, output }
    }

    #[test]
    fn a_wide_fan_out_takes_several_reports_in_order() {
        let mut draft = Draft::default();
        for n in 0..1_200 {
            draft.push(completed(n, 1));
            draft.unlocks(StepId(n as usize));
        }
        let mut seen = Vec::new();
        while !draft.is_empty() {
            let (transitions, unlocked) = draft.take_report();
            assert!(transitions.len() <= TRANSITIONS_LIMIT);
            assert_eq!(transitions.len(), unlocked.len());
            seen.extend(unlocked.into_iter().map(StepId::index));
        }
        assert_eq!(seen, (0..1_200).collect::<Vec<_>>());
    }

    #[test]
    fn large_payloads_are_not_gathered_without_end_and_one_always_fits() {
        let mut draft = Draft::default();
        for n in 0..3 {
            draft.push(completed(n, BYTES_LIMIT));
        }
        assert_eq!(draft.take_report().0.len(), 1);
        draft.push(completed(3, 1));
        assert_eq!(draft.take_report().0.len(), 1);
        assert_eq!(draft.take_report().0.len(), 1);
        assert_eq!(draft.take_report().0.len(), 1);
        assert!(draft.is_empty());
    }
}
