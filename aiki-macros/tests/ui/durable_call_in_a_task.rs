use aiki::prelude::*;

#[aiki::task]
async fn inner(cents: u64) -> Result<u64, Failure> {
    Ok(cents)
}

#[aiki::task]
async fn without_a_run(cx: TaskContext, cents: u64) -> Result<u64, Failure> {
    let _ = inner.start(&cx, cents).await?;
    Ok(inner.start(&run, cents).await?)
}

fn main() {}
