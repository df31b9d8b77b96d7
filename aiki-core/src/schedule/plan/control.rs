//! Pausing, resuming, taking out of service.

use crate::schedule::{ScheduleRecord, ScheduleStatus};
use crate::time::Timestamp;

/// Sets a schedule's status; answers whether that changed anything. When it is due next is not touched: a schedule
/// that is resumed after its time fires at once.
pub fn set_status(record: &mut ScheduleRecord, status: ScheduleStatus, now: Timestamp) -> bool {
    let changed = record.status != status;
    if changed {
        record.status = status;
        record.updated_at = now;
    }
    changed
}
