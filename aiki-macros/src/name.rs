//! Names of tasks, workflows and versions.

use proc_macro2::Ident;
use syn::LitStr;
use syn::ext::IdentExt;

const MAX_LEN: usize = 128;

/// The name a function gives to what it defines, unless the attribute says otherwise.
pub(crate) fn of_function(function: &Ident) -> LitStr {
    LitStr::new(&function.unraw().to_string().replace('_', "-"), function.span())
}

/// Refuses at compile time what `aiki_core::name::check_name` would refuse when the program runs.
pub(crate) fn check(name: &LitStr) -> syn::Result<()> {
    problem(&name.value()).map_or(Ok(()), |problem| Err(syn::Error::new(name.span(), problem)))
}

fn problem(name: &str) -> Option<String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '/' | '-');
    if let Some(found) = name.chars().find(|c| !allowed(*c)) {
        Some(format!("the name `{name}` has the character {found:?}: use only letters, digits and . _ / -"))
    } else if name.is_empty() {
        Some(format!("the name is empty: give it 1 to {MAX_LEN} characters"))
    } else if name.len() > MAX_LEN {
        Some(format!("the name has {} characters: shorten it to {MAX_LEN}", name.len()))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_macro_and_the_program_accept_the_same_names() {
        let long = "x".repeat(129);
        for name in ["", "a", "orders/charge-card_2.0", "a b", "é", "a@b", &long[1..], &long] {
            let refused = aiki::name::check_name(name).err().map(|error| error.to_string());
            assert_eq!(problem(name), refused, "{name}");
        }
    }

    #[test]
    fn a_keyword_as_a_name_loses_its_mark() {
        assert_eq!(of_function(&syn::parse_str("r#loop").unwrap()).value(), "loop");
        assert_eq!(of_function(&syn::parse_str("charge_card").unwrap()).value(), "charge-card");
    }
}
