//! Reading the file of orders: what is wrong is named with its line and skipped.

use std::path::Path;

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Order {
    pub(crate) id: String,
    pub(crate) city: String,
    pub(crate) card: String,
    pub(crate) items: Vec<Item>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Item {
    pub(crate) sku: String,
    pub(crate) quantity: u32,
    pub(crate) cents: u64,
}

impl Order {
    pub(crate) fn cents(&self) -> u64 {
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

pub(crate) struct Skipped {
    pub(crate) line: usize,
    pub(crate) reason: String,
}

pub(crate) struct Input {
    pub(crate) orders: Vec<Order>,
    pub(crate) skipped: Vec<Skipped>,
}

pub(crate) fn read_orders(path: &Path) -> Result<Input, String> {
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
