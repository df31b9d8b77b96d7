//! Durations as text, such as `200ms` or `1m30s`.

use std::time::Duration;

use syn::LitStr;

const UNITS: [(&str, u64); 5] = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// Reads a duration of at least 1 ms.
pub(crate) fn parse(text: &LitStr) -> syn::Result<Duration> {
    read(&text.value()).map(Duration::from_millis).map_err(|problem| syn::Error::new(text.span(), problem))
}

/// Whole numbers, each with its unit, largest unit first; the sum in milliseconds.
fn read(text: &str) -> Result<u64, String> {
    let no_duration = || {
        format!(
            "`{text}` is not a duration: write whole numbers with the units d, h, m, s, ms, largest first, \
             such as \"200ms\" or \"1m30s\""
        )
    };
    let (mut rest, mut total, mut below) = (text, 0_u64, u64::MAX);
    while !rest.is_empty() {
        let (count, behind) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len()));
        let (unit, behind) = behind.split_at(behind.find(|c: char| c.is_ascii_digit()).unwrap_or(behind.len()));
        let ms = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, ms)| *ms);
        let ms = ms.filter(|ms| *ms < below && !count.is_empty()).ok_or_else(no_duration)?;
        let part = count.parse::<u64>().ok().and_then(|count| count.checked_mul(ms));
        total = part.and_then(|part| total.checked_add(part)).ok_or_else(|| format!("`{text}` is too long"))?;
        (rest, below) = (behind, ms);
    }
    match total {
        0 if text.is_empty() => Err(no_duration()),
        0 => Err(format!("`{text}` is no time at all: the least is \"1ms\"")),
        total => Ok(total),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_unit_has_its_length() {
        let read = |text| read(text).unwrap();
        assert_eq!(
            [read("200ms"), read("1s"), read("2m"), read("3h"), read("1d")],
            [200, 1000, 120_000, 10_800_000, 86_400_000]
        );
        assert_eq!(read("1m30s"), 90_000);
        assert_eq!(read("1d2h3m4s5ms"), 93_784_005);
    }

    #[test]
    fn what_is_no_duration_is_refused_with_an_example() {
        for text in ["", "1", "s", "1 s", "1.5s", "-1s", "1sec", "1S", "30s1m", "1s1s", "1s2"] {
            assert!(read(text).unwrap_err().contains("\"1m30s\""), "{text}");
        }
    }

    #[test]
    fn nothing_and_more_than_there_is_are_refused() {
        assert!(read("0s").unwrap_err().contains("the least is \"1ms\""));
        for text in ["99999999999999999999s", "18446744073709551615s", "18446744073709551s1000ms"] {
            assert!(read(text).unwrap_err().contains("too long"), "{text}");
        }
    }
}
