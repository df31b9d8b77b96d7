use aiki::prelude::*;

pub struct Order {
    cents: u64,
}

#[aiki::task(retry = fixed(3, "1s"))]
async fn charge(order: Order) -> Result<u64, Failure> {
    Ok(order.cents)
}

fn main() {}
