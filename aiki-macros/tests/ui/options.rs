use aiki::prelude::*;

#[aiki::workflow]
async fn no_version(_run: Run) -> Result<(), Failure> {
    Ok(())
}

#[aiki::task(timeuot = "1s")]
async fn unknown_option() -> Result<(), Failure> {
    Ok(())
}

#[aiki::task(version = "1.0.0", name = "charge card")]
async fn bad_name() -> Result<(), Failure> {
    Ok(())
}

#[aiki::task(retry = fixed(3, "1 sec"))]
async fn bad_duration() -> Result<(), Failure> {
    Ok(())
}

#[aiki::task(retry = exponental(3, "1s"))]
async fn bad_strategy() -> Result<(), Failure> {
    Ok(())
}

#[aiki::task(retry = { 3 })]
async fn bad_expression() -> Result<(), Failure> {
    Ok(())
}

async fn handles_are_there(run: Run) {
    let _ = unknown_option.start(&run, ()).await;
    let _ = bad_name.start(&run, ()).await;
    let _ = bad_duration.start(&run, ()).await;
    let _ = no_version.key();
}

fn main() {}
