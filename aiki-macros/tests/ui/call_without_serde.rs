use aiki::prelude::*;

pub struct Order {
    cents: u64,
}

#[aiki::task]
async fn charge(order: Order) -> Result<u64, Failure> {
    Ok(order.cents)
}

#[aiki::workflow(version = "1.0.0")]
async fn checkout(run: Run, cents: u64) -> Result<u64, Failure> {
    Ok(charge.start(&run, Order { cents }).await?)
}

fn main() {}
