//! Where chance begins.

use aiki_runtime::{Entropy, SystemEntropy};

/// The environment variable that overrides every seed.
pub(crate) const VARIABLE: &str = "AIKI_TEST_SEED";

/// The seed of [`VARIABLE`], else the one that was asked for.
///
/// # Panics
/// When the variable does not hold a number: a replay with another seed than was meant proves nothing.
pub(crate) fn or(asked: u64) -> u64 {
    from(std::env::var(VARIABLE).ok().as_deref()).unwrap_or(asked)
}

/// The seed of [`VARIABLE`], else one by chance.
pub(crate) fn by_chance() -> u64 {
    // Short enough to be typed.
    or(SystemEntropy.next_u64() >> 32)
}

fn from(variable: Option<&str>) -> Option<u64> {
    let text = variable?;
    match text.trim().parse() {
        Ok(seed) => Some(seed),
        Err(_) => panic!("{VARIABLE} is `{text}`: give it the number that the failed test printed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variable_wins_and_must_be_a_number() {
        assert_eq!((from(None), from(Some(" 7 "))), (None, Some(7)));
        assert!(std::panic::catch_unwind(|| from(Some("seven"))).is_err());
    }
}
