#![allow(unused_imports)]

use aiki::prelude::*;

#[aiki::task]
async fn generic<T: Copy>(value: T) -> Result<T, Failure> {
    Ok(value)
}

#[aiki::task]
fn not_async() -> Result<(), Failure> {
    Ok(())
}

#[aiki::task]
async fn opaque(value: impl Copy) -> Result<(), Failure> {
    Ok(())
}

#[aiki::task]
async fn borrowed(name: &str) -> Result<(), Failure> {
    Ok(())
}

#[aiki::task]
async fn two_inputs(left: u64, right: u64) -> Result<u64, Failure> {
    Ok(left + right)
}

#[aiki::task]
async fn no_result() {}

#[aiki::task]
async fn plain_value() -> u64 {
    1
}

#[aiki::workflow(version = "1.0.0")]
async fn no_run(order: u64) -> Result<u64, Failure> {
    Ok(order)
}

#[aiki::task]
struct Charge;

fn main() {}
