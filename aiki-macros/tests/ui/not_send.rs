use std::rc::Rc;

use aiki::prelude::*;

#[aiki::task]
async fn charge(cents: u64) -> Result<u64, Failure> {
    let shared = Rc::new(cents);
    std::future::ready(()).await;
    Ok(*shared)
}

fn main() {}
