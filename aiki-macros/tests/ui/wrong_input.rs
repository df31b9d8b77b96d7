use aiki::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
pub struct Order {
    cents: u64,
}

#[aiki::task]
async fn charge(order: Order) -> Result<u64, Failure> {
    Ok(order.cents)
}

#[aiki::workflow(version = "1.0.0")]
async fn checkout(run: Run, order: Order) -> Result<u64, Failure> {
    Ok(charge.start(&run, order.cents).await?)
}

async fn start(client: Client) -> Result<(), StartError> {
    checkout.start(&client, "order").await?;
    Ok(())
}

fn main() {}
