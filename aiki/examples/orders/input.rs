//! Reading the file of orders: what is wrong is named with its line and skipped.

use std::path::Path;

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    pub id: String,
    pub city: String,
    pub card: String,
    pub items: Vec<Item>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Item {
    pub sku: String,
    pub quantity: u32,
    pub cents: u64,
}

impl Order {
    pub fn cents(&self) -> u64 {
        self.items.iter().map(|item| u64::from(item.quantity) * item.cents).sum()
    }

    fn check(self) -> Result<Self, String> {
        if self.id.is_empty() {
            return Err("the order has no id".into());
        }
        if self.items.is_empty() {
            return Err(format!("{} has no items", self.id));
        }
        Ok(self)
    }
}

pub struct Skipped {
    pub line: usize,
    pub reason: String,
}

pub struct Input {
    pub orders: Vec<Order>,
    pub skipped: Vec<Skipped>,
}

pub fn read_orders(path: &Path) -> Result<Input, String> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        format!(
            "cannot read the orders in {}: {error}\nGive the path of a file with one order per line.",
            path.display()
        )
    })?;
    let mut input = Input { orders: Vec::new(), skipped: Vec::new() };
    for (at, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let parsed = serde_json::from_str::<Order>(line).map_err(|error| error.to_string()).and_then(Order::check);
        match parsed {
            Ok(order) => input.orders.push(order),
            Err(reason) => input.skipped.push(Skipped { line: at + 1, reason }),
        }
    }
    Ok(input)
}
