//! The workflow: reserve, charge, ship.

use std::sync::Arc;
use std::time::Duration;

use aiki::prelude::*;
use serde::{Deserialize, Serialize};

use crate::input::Order;
use crate::ledger::Ledger;

/// What the payment gateway answers when it does not charge.
#[derive(Clone, Debug, Serialize, Deserialize, thiserror::Error)]
pub(crate) enum PaymentError {
    #[error("the card was declined")]
    Declined,
    #[error("the gateway timed out")]
    Timeout,
    #[error("the ledger cannot be written: {0}")]
    Ledger(String),
}

/// Why an order failed. The caller gets it back as it is.
#[derive(Clone, Debug, Serialize, Deserialize, thiserror::Error)]
pub(crate) enum OrderError {
    #[error(transparent)]
    Payment(#[from] TaskError<PaymentError>),
    #[error(transparent)]
    Warehouse(#[from] TaskError<WarehouseError>),
}

#[derive(Clone, Debug, Serialize, Deserialize, thiserror::Error)]
#[error("{sku} is not in the catalogue")]
pub(crate) struct WarehouseError {
    sku: String,
}

impl OrderError {
    pub(crate) fn reason(&self) -> String {
        match self {
            OrderError::Payment(TaskError::Failed { error, .. }) => error.to_string(),
            OrderError::Warehouse(TaskError::Failed { error, .. }) => error.to_string(),
            other => other.to_string(),
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Receipt {
    pub(crate) key: String,
    pub(crate) cents: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Shipped {
    pub(crate) cents: u64,
    pub(crate) parcel: String,
}

pub(crate) fn define(ledger: Arc<Ledger>) -> WorkflowVersion<Order, Shipped, OrderError> {
    let reserve = Task::new("reserve-stock", reserve_stock);
    let charge = Task::new("charge-card", move |cx: TaskContext, order: Order| {
        let ledger = ledger.clone();
        async move { charge_card(&ledger, cx, order).await }
    })
    .retry(RetryStrategy::exponential(4, Duration::from_millis(5)))
    .retry_if(|error| matches!(error, PaymentError::Timeout));
    let ship = Task::new("ship", ship_parcel);

    Workflow::new("order-processing").version("1.0.0", move |run: Run, order: Order| {
        let (reserve, charge, ship) = (reserve.clone(), charge.clone(), ship.clone());
        async move {
            reserve.start(&run, order.clone()).await?;
            let receipt = charge.start(&run, order.clone()).await?;
            run.sleep("packing", Duration::from_millis(50)).await;
            let parcel = ship.start(&run, order).await?;
            Ok(Shipped { cents: receipt.cents, parcel })
        }
    })
}

async fn reserve_stock(_: TaskContext, order: Order) -> Result<(), WarehouseError> {
    tokio::time::sleep(Duration::from_millis(30)).await;
    match order.items.iter().find(|item| item.sku.starts_with("unknown")) {
        Some(item) => Err(WarehouseError { sku: item.sku.clone() }),
        None => Ok(()),
    }
}

/// A gateway that declines some cards and times out twice for others. The key lets it recognise a
/// request that a crash repeated.
async fn charge_card(ledger: &Ledger, cx: TaskContext, order: Order) -> Result<Receipt, PaymentError> {
    tokio::time::sleep(Duration::from_millis(120)).await;
    if order.card.ends_with("declined") {
        return Err(PaymentError::Declined);
    }
    if order.card.ends_with("flaky") && cx.attempt() <= 2 {
        return Err(PaymentError::Timeout);
    }
    let (key, cents) = (cx.idempotency_key(), order.cents());
    ledger.charge(&order.id, &key, cents).map_err(|error| PaymentError::Ledger(error.to_string()))?;
    Ok(Receipt { key, cents })
}

async fn ship_parcel(cx: TaskContext, order: Order) -> Result<String, WarehouseError> {
    tokio::time::sleep(Duration::from_millis(30)).await;
    Ok(format!("{}-{}", order.city.to_lowercase(), cx.idempotency_key()))
}
