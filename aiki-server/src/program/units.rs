//! Sizes and times as people write them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A number of bytes: `1000000`, `1MB`, `64KiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size(pub(crate) usize);

/// A length of time: `500ms`, `30s`, `5m`, `12h`, `90d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span(pub(crate) Duration);

/// Number and unit; `None` when there is no number.
fn split(text: &str) -> Option<(u64, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    Some((number.parse().ok()?, unit.trim_start()))
}

impl FromStr for Size {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WRONG: &str = "expected a size such as 1000000, 1MB or 64KiB";
        let (number, unit) = split(text).ok_or(WRONG)?;
        let factor = match unit {
            "" | "B" => 1,
            "KB" => 1_000,
            "MB" => 1_000_000,
            "GB" => 1_000_000_000,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            _ => return Err(WRONG),
        };
        number
            .checked_mul(factor)
            .and_then(|bytes| usize::try_from(bytes).ok())
            .map(Self)
            .ok_or("the size is too large")
    }
}

impl FromStr for Span {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WRONG: &str = "expected a time such as 500ms, 30s, 5m, 12h or 90d";
        let (number, unit) = split(text).ok_or(WRONG)?;
        let millis = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(WRONG),
        };
        number.checked_mul(millis).map(Duration::from_millis).map(Self).ok_or("the time is too long")
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_are_read_with_their_units() {
        let size = |text: &str| text.parse::<Size>().map(|size| size.0);
        assert_eq!((size("12"), size("1MB"), size("64 KiB")), (Ok(12), Ok(1_000_000), Ok(65_536)));
        let span = |text: &str| text.parse::<Span>().map(|span| span.0.as_millis());
        assert_eq!((span("500ms"), span("30s"), span("90d")), (Ok(500), Ok(30_000), Ok(7_776_000_000)));
    }

    #[test]
    fn a_time_without_a_unit_is_not_guessed() {
        for wrong in ["", "30", "s", "-1s", "1.5s", "30 seconds", "1w"] {
            assert!(wrong.parse::<Span>().is_err(), "{wrong}");
        }
        for wrong in ["", "MB", "1mb", "-1", "99999999999GB"] {
            assert!(wrong.parse::<Size>().is_err(), "{wrong}");
        }
    }
}
