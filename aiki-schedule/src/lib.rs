//! When a schedule of Aiki is due: pure functions over a
//! [`ScheduleSpec`](aiki_core::schedule::ScheduleSpec) and points in time. No
//! clock, no environment: time zones come from a database that is compiled in, so every machine
//! gives the same answers.
//!
//! ```
//! use aiki_core::Timestamp;
//! use aiki_core::schedule::{Occurrences, ScheduleSpec};
//!
//! let spec = ScheduleSpec::cron("0 9 * * MON-FRI").timezone("Europe/Berlin");
//! let calendar = aiki_schedule::Calendar::new(&spec)?;
//! // Friday evening; the next one is on Monday at nine in Berlin.
//! let friday = Timestamp::from_millis(1_772_823_600_000);
//! assert_eq!(calendar.next(friday), Some(Timestamp::from_millis(1_773_043_200_000)));
//!
//! let refused = aiki_schedule::Calendar::new(&ScheduleSpec::cron("0 25 * * *")).unwrap_err();
//! assert!(refused.to_string().contains("the hour `25`"));
//! # Ok::<(), aiki_schedule::SpecError>(())
//! ```

mod calendar;
mod cron;
mod error;
mod interval;
mod zone;

pub use calendar::Calendar;
pub use error::SpecError;
