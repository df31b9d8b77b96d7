use aiki::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Order {
    cents: u64,
}

#[aiki::task]
pub async fn charge(order: Order) -> Result<u64, Failure> {
    Ok(order.cents)
}

fn main() {}
