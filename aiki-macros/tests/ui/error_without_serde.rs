#[derive(Debug, thiserror::Error)]
#[error("declined")]
pub struct Declined;

#[aiki::task]
async fn charge(cents: u64) -> Result<u64, Declined> {
    if cents == 0 { Err(Declined) } else { Ok(cents) }
}

fn main() {}
