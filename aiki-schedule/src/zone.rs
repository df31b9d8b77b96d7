//! Time zones by their IANA name, out of the database that is compiled in.

use std::sync::LazyLock;

use jiff::tz::{TimeZone, TimeZoneDatabase};

use crate::error::SpecError;

/// Never the machine's own database, whatever else the program enables.
static BUNDLED: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

/// The zone with this name; none is UTC.
pub(crate) fn find(name: Option<&str>) -> Result<TimeZone, SpecError> {
    let Some(name) = name else { return Ok(TimeZone::UTC) };
    let unknown = || SpecError::Zone(name.chars().take(64).collect());
    BUNDLED.get(name).ok().filter(|zone| !zone.is_unknown()).ok_or_else(unknown)
}
