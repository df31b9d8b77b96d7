//! Whether Redis may throw streams away.

use fred::types::Value;

use crate::link::{Link, command};

/// The policy that keeps everything.
const KEEPS: &str = "noeviction";

/// The `maxmemory-policy` of this Redis, if it is another than `noeviction`. `None` also when Redis does not tell.
///
/// `INFO` has it as well as `CONFIG`, which is forbidden to many users.
pub(crate) async fn policy(link: &Link) -> Option<String> {
    let answer: Value = link.ask(|client| async move { command(&client, "INFO", vec!["memory"]).await }).await.ok()?;
    evicts(&answer.into_string()?).map(str::to_owned)
}

fn evicts(info: &str) -> Option<&str> {
    let policy = info.lines().find_map(|line| line.strip_prefix("maxmemory_policy:"))?.trim();
    Some(policy).filter(|policy| *policy != KEEPS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_policy_that_deletes_is_worth_a_word() {
        assert_eq!(evicts("# Memory\r\nmaxmemory:0\r\nmaxmemory_policy:allkeys-lru\r\nx:1\r\n"), Some("allkeys-lru"));
        assert_eq!(evicts("maxmemory_policy:noeviction\r\n"), None);
        assert_eq!(evicts("# Memory\r\n"), None);
    }
}
