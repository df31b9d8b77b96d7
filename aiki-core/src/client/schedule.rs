//! Asking for a schedule, and the handle of one.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::Client;
use crate::definition::WorkflowVersion;
use crate::hash::{HashError, input_hash};
use crate::id::ScheduleId;
use crate::name::Name;
use crate::payload::{Payload, PayloadError};
use crate::retry::RetryStrategy;
use crate::run::{ConflictPolicy, Reference, RunOptions};
use crate::schedule::{ActivateSchedule, OverlapPolicy, ScheduleRecord, ScheduleSpec, ScheduleStatus, Timing};
use crate::server_client::ServerError;

/// The longest reference id, in bytes.
const MAX_REFERENCE_LEN: usize = 256;

/// Why a schedule was not activated.
#[derive(Clone, PartialEq, thiserror::Error)]
pub enum ScheduleError {
    /// The interval is zero.
    #[error("the schedule's interval is zero: give it a millisecond or more")]
    ZeroInterval,
    /// The cron expression has no fields.
    #[error("the schedule's cron expression is empty: give it five fields, such as `0 9 * * *`")]
    EmptyExpression,
    /// An interval has no local time.
    #[error("a schedule of a fixed interval has no time zone: leave it out, or use Schedule::cron")]
    ZoneOfInterval,
    /// The reference id is empty or too long.
    #[error("the reference id must have 1 to {MAX_REFERENCE_LEN} bytes, it has {0}")]
    ReferenceId(usize),
    /// The input cannot be sent.
    #[error("the workflow's input cannot be sent: {0}")]
    Input(#[from] PayloadError),
    /// The input cannot be hashed.
    #[error("the workflow's input cannot be hashed: {0}")]
    Hash(#[from] HashError),
    /// The server refused. A cron expression or a time zone that cannot be used is
    /// [`ServerError::Invalid`] and names the part that is wrong.
    #[error(transparent)]
    Server(#[from] ServerError),
}

crate::debug_as_display!(ScheduleError);

/// A schedule that is about to be activated: starts runs of a workflow by the calendar.
///
/// Activating the same definition (timing, workflow version, input, options) again finds the schedule
/// that is there, so a program may do it every time it starts.
///
/// ```no_run
/// use std::time::Duration;
/// use aiki_core::{Client, Failure, OverlapPolicy, Run, Schedule, Workflow};
///
/// # async fn example(client: Client) -> Result<(), Box<dyn std::error::Error>> {
/// let report = Workflow::new("report").version("1.0.0", |_: Run, region: String| async move {
///     Ok::<_, Failure>(format!("sales of {region}"))
/// });
///
/// // Every working day at nine in the morning of Berlin, in summer and in winter.
/// let daily = Schedule::cron("0 9 * * MON-FRI")
///     .timezone("Europe/Berlin")
///     .overlap(OverlapPolicy::CancelPrevious)
///     .reference_id("daily-report")
///     .activate(&client, &report, "north".to_owned())
///     .await?;
///
/// // Every ten minutes from now on; each occurrence has its run, also the missed ones.
/// Schedule::every(Duration::from_secs(600))
///     .overlap(OverlapPolicy::Allow)
///     .activate(&client, &report, "south".to_owned())
///     .await?;
///
/// daily.pause().await?;
/// println!("{} runs so far", daily.record().await?.run_count);
/// # Ok(()) }
/// ```
#[must_use = "a schedule takes effect with `activate`"]
#[derive(Clone, Debug)]
pub struct Schedule {
    spec: ScheduleSpec,
    has_zone: bool,
    reference_id: Option<String>,
    conflict_policy: ConflictPolicy,
    retry: Option<RetryStrategy>,
    pool: Option<Name>,
}

impl Schedule {
    fn new(spec: ScheduleSpec) -> Self {
        let (reference_id, conflict_policy) = (None, ConflictPolicy::default());
        Self { spec, has_zone: false, reference_id, conflict_policy, retry: None, pool: None }
    }

    /// By a cron expression: five fields (minute hour day month weekday), or six with the second in
    /// front. In UTC unless a [`timezone`](Self::timezone) is given.
    pub fn cron(expression: impl Into<String>) -> Self {
        Self::new(ScheduleSpec::cron(expression))
    }

    /// Every so often, the first time one interval after the activation; in whole milliseconds, rounded up.
    pub fn every(interval: Duration) -> Self {
        Self::new(ScheduleSpec::every(interval))
    }

    /// Reads the expression as local time of this IANA zone, such as `Europe/Berlin`. A time that is
    /// skipped when clocks go forward comes as much later; one that comes twice counts the first time.
    pub fn timezone(mut self, zone: impl Into<String>) -> Self {
        self.spec = self.spec.timezone(zone);
        self.has_zone = true;
        self
    }

    /// What happens when the previous run has not ended: [`OverlapPolicy::Skip`] unless given.
    pub fn overlap(mut self, policy: OverlapPolicy) -> Self {
        self.spec = self.spec.overlap(policy);
        self
    }

    /// Your own id for the schedule, unique in the namespace.
    pub fn reference_id(mut self, id: impl Into<String>) -> Self {
        self.reference_id = Some(id.into());
        self
    }

    /// What to do when the reference id belongs to a schedule with another definition: refuse, unless
    /// given, or return that one as it is.
    pub fn on_conflict(mut self, policy: ConflictPolicy) -> Self {
        self.conflict_policy = policy;
        self
    }

    /// How the runs are repeated as a whole, instead of what the workflow says.
    pub fn retry(mut self, strategy: RetryStrategy) -> Self {
        self.retry = Some(strategy.normalized());
        self
    }

    /// Reserves the runs for the workers of a pool.
    pub fn pool(mut self, pool: impl Into<Name>) -> Self {
        self.pool = Some(pool.into());
        self
    }

    /// Activates the schedule: makes it, or finds the one with the same definition and sees that it is active.
    ///
    /// Cancel safety: dropping the future leaves open whether the schedule is active; activating it
    /// again is safe.
    ///
    /// # Errors
    /// [`ScheduleError`]; [`ServerError::ScheduleConflict`] in it when the reference id or the definition
    /// belongs to another schedule.
    pub async fn activate<I: Serialize, O, E>(
        self,
        client: &Client,
        workflow: &WorkflowVersion<I, O, E>,
        input: I,
    ) -> Result<ScheduleHandle, ScheduleError> {
        let input = Payload::encode(&input)?;
        // Nothing of the generic part is held across the await.
        let request = self.into_request(workflow.register().retry(), workflow.key().clone(), input)?;
        let record = client.server().activate_schedule(request).await?;
        Ok(ScheduleHandle { client: client.clone(), id: record.id })
    }

    fn into_request(
        self,
        default_retry: &RetryStrategy,
        workflow: crate::name::WorkflowKey,
        input: Option<Payload>,
    ) -> Result<ActivateSchedule, ScheduleError> {
        match &self.spec.timing {
            Timing::Interval { every_ms: 0 } => return Err(ScheduleError::ZeroInterval),
            Timing::Interval { .. } if self.has_zone => return Err(ScheduleError::ZoneOfInterval),
            Timing::Cron { expression, .. } if expression.trim().is_empty() => {
                return Err(ScheduleError::EmptyExpression);
            }
            _ => {}
        }
        if let Some(id) = &self.reference_id
            && !(1..=MAX_REFERENCE_LEN).contains(&id.len())
        {
            return Err(ScheduleError::ReferenceId(id.len()));
        }
        let hash = input_hash(input.as_ref().map(Payload::as_str))?;
        let of_the_workflow = Some(default_retry).filter(|retry| **retry != RetryStrategy::Never);
        let retry = self.retry.or_else(|| of_the_workflow.cloned());
        let conflict_policy = self.conflict_policy;
        Ok(ActivateSchedule {
            reference: self.reference_id.map(|id| Reference { id, conflict_policy }),
            options: Some(RunOptions { retry, pool: self.pool }),
            ..ActivateSchedule::new(workflow, self.spec, input, hash)
        })
    }
}

/// A schedule. Dropping the handle changes nothing: the schedule lives on the server.
#[derive(Clone)]
pub struct ScheduleHandle {
    client: Client,
    id: ScheduleId,
}

impl ScheduleHandle {
    /// The schedule's id.
    pub fn id(&self) -> ScheduleId {
        self.id
    }

    /// The schedule as it stands: status, next occurrence, runs so far.
    ///
    /// # Errors
    /// [`ServerError::ScheduleNotFound`] when there is none with this id; [`ServerError`] when the server cannot
    /// be asked.
    pub async fn record(&self) -> Result<ScheduleRecord, ServerError> {
        self.client.server().get_schedule(self.id).await
    }

    /// Starts no more runs until it is resumed. Runs under way go on.
    ///
    /// # Errors
    /// As [`record`](Self::record).
    pub async fn pause(&self) -> Result<(), ServerError> {
        self.set(ScheduleStatus::Paused).await
    }

    /// Goes on. If its time came while it was paused it fires at once: for every missed occurrence with
    /// [`OverlapPolicy::Allow`], once with the others.
    ///
    /// # Errors
    /// As [`record`](Self::record).
    pub async fn resume(&self) -> Result<(), ServerError> {
        self.set(ScheduleStatus::Active).await
    }

    /// Takes the schedule out of service. Activating the same definition again brings it back.
    ///
    /// # Errors
    /// As [`record`](Self::record).
    pub async fn deactivate(&self) -> Result<(), ServerError> {
        self.set(ScheduleStatus::Inactive).await
    }

    async fn set(&self, status: ScheduleStatus) -> Result<(), ServerError> {
        self.client.server().set_schedule_status(self.id, status).await.map(drop)
    }
}

impl fmt::Debug for ScheduleHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScheduleHandle").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Client {
    /// A handle of the schedule with this id. Nothing is asked: an id without a schedule shows with the
    /// handle's first request.
    pub fn schedule(&self, id: ScheduleId) -> ScheduleHandle {
        ScheduleHandle { client: self.clone(), id }
    }

    /// A handle of the schedule with this reference id.
    ///
    /// # Errors
    /// [`ServerError::ScheduleNotFound`] when there is none.
    pub async fn schedule_by_reference(&self, reference_id: &str) -> Result<ScheduleHandle, ServerError> {
        let record = self.server().get_schedule_by_reference(reference_id).await?;
        Ok(self.schedule(record.id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::WorkflowKey;

    fn request(schedule: Schedule) -> Result<ActivateSchedule, ScheduleError> {
        schedule.into_request(&RetryStrategy::fixed(3, Duration::from_secs(1)), WorkflowKey::user("w", "1"), None)
    }

    #[test]
    fn what_can_be_seen_without_a_server_is_refused_at_once() {
        let second = Duration::from_secs(1);
        for (schedule, expected) in [
            (Schedule::every(Duration::ZERO), ScheduleError::ZeroInterval),
            (Schedule::cron(" "), ScheduleError::EmptyExpression),
            (Schedule::every(second).timezone("Europe/Berlin"), ScheduleError::ZoneOfInterval),
            (Schedule::every(second).reference_id(""), ScheduleError::ReferenceId(0)),
            (Schedule::every(second).reference_id("x".repeat(257)), ScheduleError::ReferenceId(257)),
        ] {
            assert_eq!(request(schedule).unwrap_err(), expected);
        }
    }

    #[test]
    fn the_workflows_retry_counts_unless_the_schedule_has_its_own() {
        let retry = |schedule| request(schedule).unwrap().options.unwrap().retry;
        let every = || Schedule::every(Duration::from_millis(1));
        assert_eq!(retry(every()), Some(RetryStrategy::fixed(3, Duration::from_secs(1))));
        assert_eq!(retry(every().retry(RetryStrategy::Never)), Some(RetryStrategy::Never));
    }

    #[test]
    fn a_conflict_policy_without_a_reference_is_no_reference() {
        let every = || Schedule::every(Duration::from_micros(1)).on_conflict(ConflictPolicy::ReturnExisting);
        assert_eq!(request(every()).unwrap().reference, None);
        let reference = request(every().reference_id("a")).unwrap().reference;
        assert_eq!(reference.unwrap().conflict_policy, ConflictPolicy::ReturnExisting);
    }
}
