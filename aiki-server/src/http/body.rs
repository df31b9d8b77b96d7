//! Receiving a body.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use aiki_wire::error::ErrorCode;
use axum::body::{Body, HttpBody};
use axum::http::HeaderMap;
use axum::http::header::CONTENT_LENGTH;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::refusal::Refusal;

/// What one permit stands for.
const UNIT: usize = 1024;

/// How bodies are received.
pub(super) struct Bodies {
    limit: usize,
    timeout: Duration,
    /// Memory for bodies, in [`UNIT`]s.
    room: Arc<Semaphore>,
}

/// A body, and its share of the memory for bodies.
pub(super) struct Received {
    pub(super) bytes: Vec<u8>,
    /// Kept until the call is answered: what was read from the body lives as long.
    pub(super) room: OwnedSemaphorePermit,
}

impl Bodies {
    pub(super) fn new(limit: usize, all: usize, timeout: Duration) -> Self {
        let units = (all / UNIT).clamp(1, Semaphore::MAX_PERMITS.min(u32::MAX as usize));
        Self { limit, timeout, room: Arc::new(Semaphore::new(units)) }
    }

    /// Receives a whole body.
    pub(super) async fn receive(&self, headers: &HeaderMap, body: Body) -> Result<Received, Refusal> {
        let announced = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
        if announced.is_some_and(|length| length > self.limit) {
            return Err(self.too_large());
        }
        let late = || {
            let told = format!("the body did not arrive within {:?}: send it faster, or less of it", self.timeout);
            Refusal::new(ErrorCode::Timeout, told).closing()
        };
        tokio::time::timeout(self.timeout, self.collect(body)).await.unwrap_or_else(|_| Err(late()))
    }

    async fn collect(&self, mut body: Body) -> Result<Received, Refusal> {
        let mut bytes = Vec::new();
        let mut room = self.take(1)?;
        while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
            let frame = frame.map_err(|error| {
                Refusal { hidden: Some(error.to_string()), ..Refusal::bad_request("the body broke off: send it again") }
                    .closing()
            })?;
            let Ok(data) = frame.into_data() else { continue };
            if bytes.len() + data.len() > self.limit {
                return Err(self.too_large());
            }
            bytes.extend_from_slice(&data);
            let needed = bytes.len().div_ceil(UNIT).saturating_sub(room.num_permits());
            if needed > 0 {
                room.merge(self.take(needed)?);
            }
        }
        Ok(Received { bytes, room })
    }

    fn take(&self, units: usize) -> Result<OwnedSemaphorePermit, Refusal> {
        let units = u32::try_from(units).unwrap_or(u32::MAX);
        Arc::clone(&self.room).try_acquire_many_owned(units).map_err(|_| {
            let told = "the server holds as much as it can: send the request again later";
            Refusal::new(ErrorCode::Unavailable, told).closing()
        })
    }

    fn too_large(&self) -> Refusal {
        let told =
            format!("the body is larger than {} bytes: store large data elsewhere and pass a reference", self.limit);
        Refusal::new(ErrorCode::PayloadTooLarge, told).closing()
    }
}
