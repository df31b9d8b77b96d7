//! Addresses that may hold a password.

/// The address without user, password and options: fit for logs.
pub(crate) fn redacted(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return "***".into() };
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    match rest.rsplit_once('@') {
        Some((_, place)) => format!("{scheme}://***@{place}"),
        // A `?` or `#` of the secret: what is before it is not the place.
        None if url.contains('@') => format!("{scheme}://***"),
        None => format!("{scheme}://{rest}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_password_nor_options_are_shown() {
        for url in [
            "postgres://aiki:hunter2@db:5432/aiki",
            "postgres://db:5432/aiki?password=hunter2",
            "postgres://aiki:hun@ter2hunter2@db/aiki",
            "postgres://aiki:hunter2?more@db/aiki",
            "host=db password=hunter2",
        ] {
            let shown = redacted(url);
            assert!(!shown.contains("hunter2"), "{shown}");
        }
        assert_eq!(redacted("postgres://aiki:hunter2@db:5432/aiki"), "postgres://***@db:5432/aiki");
    }
}
