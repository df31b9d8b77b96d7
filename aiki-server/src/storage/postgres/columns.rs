//! Values as columns.

use std::error::Error;

use aiki_core::{RunId, ScheduleId, Timestamp};
use tokio_postgres::types::private::BytesMut;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};

/// An id of 16 bytes that sort. Postgres has a type of that length; what it means is ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Id(u128);

impl From<RunId> for Id {
    fn from(id: RunId) -> Self {
        Self(id.to_bits())
    }
}

impl From<ScheduleId> for Id {
    fn from(id: ScheduleId) -> Self {
        Self(id.to_bits())
    }
}

impl Id {
    pub(super) fn run(self) -> RunId {
        RunId::from_bits(self.0)
    }

    pub(super) fn schedule(self) -> ScheduleId {
        ScheduleId::from_bits(self.0)
    }
}

impl ToSql for Id {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.extend_from_slice(&self.0.to_be_bytes());
        Ok(IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::UUID
    }

    to_sql_checked!();
}

impl<'a> FromSql<'a> for Id {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(u128::from_be_bytes(raw.try_into()?)))
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::UUID
    }
}

/// Integers of the database have a sign: what lies beyond is as good as never.
pub(super) fn to_column(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn to_number(column: i64) -> u64 {
    u64::try_from(column).unwrap_or(0)
}

pub(super) fn to_timestamp(column: i64) -> Timestamp {
    Timestamp::from_millis(to_number(column))
}

/// Numbers of pages are far from this limit.
pub(super) fn to_page(page: u32) -> i32 {
    i32::try_from(page).unwrap_or(i32::MAX)
}
