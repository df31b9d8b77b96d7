use aiki::prelude::*;

#[aiki::task]
async fn inner(cents: u64) -> Result<u64, Failure> {
    Ok(cents)
}

#[aiki::task]
async fn with_a_run(run: Run, cents: u64) -> Result<u64, Failure> {
    Ok(inner.start(&run, cents).await?)
}

fn main() {}
