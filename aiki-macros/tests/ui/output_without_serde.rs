use aiki::prelude::*;

pub struct Receipt;

#[aiki::workflow(version = "1.0.0", retry = fixed(3, "1s"))]
async fn checkout(_run: Run) -> Result<Receipt, Failure> {
    Ok(Receipt)
}

fn main() {}
