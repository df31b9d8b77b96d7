use aiki::prelude::*;

#[aiki::task]
async fn charge(cents: u64) -> Result<u64, Failure> {
    Ok(cents)
}

#[aiki::workflow(version = "1.0.0")]
async fn checkout(run: Run, cents: u64) -> Result<u64, Failure> {
    let charge = charge.start(&run, cents).await?;
    Ok(cents)
}

fn main() {}
