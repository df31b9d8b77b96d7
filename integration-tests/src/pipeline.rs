//! The workflow that the process tests run: three tasks in sequence, two at once, a sleep between.

use std::time::Duration;

use aiki::prelude::*;

use crate::ledger::Ledger;

/// The workflow: from a number to a text that depends on every task's output.
pub type Pipeline = WorkflowVersion<u64, String, Failure>;

/// Defines the workflow; its tasks note their attempts in `ledger`.
pub fn define(ledger: Ledger) -> Pipeline {
    let step = Task::new("step", move |cx: TaskContext, text: String| {
        let ledger = ledger.clone();
        async move {
            ledger.note(cx.idempotency_key(), cx.attempt())?;
            tokio::time::sleep(Duration::from_millis(2)).await;
            Ok::<_, Failure>(format!("{text}."))
        }
    });
    Workflow::new("pipeline").version("1.0.0", move |run: Run, number: u64| {
        let step = step.clone();
        async move {
            let first = step.start(&run, format!("{number}")).await?;
            let (left, right) =
                futures::future::join(step.start(&run, format!("{first}l")), step.start(&run, format!("{first}r")))
                    .await;
            run.sleep("pause", Duration::from_millis(20)).await;
            Ok(step.start(&run, format!("{}{}", left?, right?)).await?)
        }
    })
}

/// What the workflow answers for `number`.
pub fn expected(number: u64) -> String {
    format!("{number}.l.{number}.r..")
}

/// Tasks per run.
pub const TASKS: usize = 4;
