//! Defining an event.

use std::fmt;
use std::marker::PhantomData;

/// An event that runs of a workflow can wait for, with the type of what it carries.
///
/// Declare it once and use it on both sides: then what is sent is what is waited for. A workflow
/// version lists the events that it takes with [`WorkflowVersion::event`](crate::WorkflowVersion::event).
///
/// ```
/// use aiki_core::{Event, Failure, Run, Workflow};
///
/// const APPROVED: Event<bool> = Event::new("approved");
///
/// let leave = Workflow::new("leave")
///     .version("1.0.0", |run: Run, days: u32| async move {
///         let approved = run.event(&APPROVED).await;
///         Ok::<_, Failure>(if approved { days } else { 0 })
///     })
///     .event(&APPROVED);
/// # let _ = leave;
/// ```
pub struct Event<T> {
    name: &'static str,
    data: PhantomData<fn(T) -> T>,
}

impl<T> Event<T> {
    /// Names an event. The name has to keep the rules of [`check_name`](crate::name::check_name); that
    /// is checked where the event is used.
    pub const fn new(name: &'static str) -> Self {
        Self { name, data: PhantomData }
    }

    /// The name.
    pub const fn name(&self) -> &'static str {
        self.name
    }
}

impl<T> Clone for Event<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Event<T> {}

impl<T> fmt::Debug for Event<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Event").field(&self.name).finish()
    }
}
