//! Connections: taking them in, up to a limit, and letting them end.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::measure;

/// How long a connection may wait for its next request, or take to send the head of one. Longer than clients
/// keep idle connections: it is for them to end those.
const HEAD_TIMEOUT: Duration = Duration::from_secs(100);
/// Pause after a connection could not be accepted, most likely because there are too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Drained {
    /// Connections whose requests did not end in time.
    pub(crate) cut: usize,
}

/// Serves until `stop` is true; then takes no more connections, lets requests end for `drain`, and cuts off
/// the rest.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    most: usize,
    stop: watch::Receiver<bool>,
    drain: Duration,
) -> Drained {
    let places = Arc::new(Semaphore::new(most));
    let mut connections = JoinSet::new();
    let mut stopped = pin!({
        let mut stop = stop.clone();
        async move { drop(stop.wait_for(|stop| *stop).await) }
    });
    loop {
        let accepted = async {
            // Never closed.
            let place = Arc::clone(&places).acquire_owned().await.ok();
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            biased;
            () = &mut stopped => break,
            Some(_) = connections.join_next() => continue,
            accepted = accepted => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let (router, stop) = (router.clone(), stop.clone());
                connections.spawn(async move {
                    let _open = measure::connection();
                    converse(stream, router, stop).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    let all = async { while connections.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(drain, all).await;
    let cut = connections.len();
    connections.shutdown().await;
    Drained { cut }
}

async fn converse(stream: TcpStream, router: Router, mut stop: watch::Receiver<bool>) {
    // Without it small answers wait for an acknowledgement.
    let _ = stream.set_nodelay(true);
    let service = TowerToHyperService::new(router);
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .serve_connection(TokioIo::new(stream), service)
    );
    tokio::select! {
        // What went wrong with one connection is its client's business.
        _ = &mut connection => return,
        _ = stop.wait_for(|stop| *stop) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = connection.await;
}
