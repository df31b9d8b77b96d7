//! Starting, serving, draining, stopping.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::Server;
use crate::http::RouterOptions;
use crate::keys::{KeyStore, Keyring};
use aiki_runtime::SystemClock;
use aiki_subscriber_redis::RedisPublisher;
use axum::Router;
use axum::middleware::from_fn;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::checks::Checks;
use super::exit::Failure;
use super::operations::{self, Operations};
use super::settings::Settings;
use super::signals::Signals;
use super::{listen, logs, measure};

/// The namespace of those who need no key.
const OPEN_NAMESPACE: &str = "default";

/// Serves until a signal ends it.
pub(crate) fn run(settings: &Settings) -> Result<(), Failure> {
    logs::begin(settings.log_format, &settings.log_level)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::broken(format!("the runtime cannot be started: {error}")))?;
    runtime.block_on(serve(settings))
}

async fn serve(settings: &Settings) -> Result<(), Failure> {
    let mut signals = Signals::listen().map_err(|error| Failure::broken(format!("no signals: {error}")))?;
    let prometheus = measure::install()?;
    // First: it is quickly said that the address is taken, and nothing has been touched then.
    let listener = bind(settings.listen).await?;
    let redis = settings.redis.clone().map(RedisPublisher::new);
    let mut builder = settings.database.builder()?;
    if let Some(redis) = &redis {
        builder = builder.publisher(Arc::new(redis.clone()));
    }
    builder = builder.disconnect_grace(settings.disconnect_grace.0);
    if let Some(keep) = settings.retention {
        builder = builder.retention(keep.0);
    }
    // First the store: a database that is refused is left as it was.
    let server = builder.payload_limit(settings.payload_limit.0).history_limit(settings.history_limit).start().await?;
    let keys = match open_keys(settings).await {
        Ok(keys) => Arc::new(keys),
        Err(failure) => {
            server.close().await;
            return Err(failure);
        }
    };

    let draining = Arc::new(AtomicBool::new(false));
    let checks = Checks::new(server.clone(), redis).await;
    let upkeep = prometheus.clone();
    let looking = tokio::spawn(checks.clone().run(move || upkeep.run_upkeep()));
    let api = api(&server, &keys, settings).layer(from_fn(measure::request));
    let operations = Operations { checks, prometheus, keys, draining: Arc::clone(&draining) };
    let router = api.merge(operations::routes(operations));

    let address = listener.local_addr().unwrap_or(settings.listen);
    settings.log();
    tracing::info!(%address, version = env!("CARGO_PKG_VERSION"), "serving");
    let (stop, stopping) = watch::channel(false);
    let drain = settings.drain_time.0;
    let serving = tokio::spawn(listen::serve(listener, router, settings.max_connections, stopping, drain));

    let (signal, _) = signals.next().await;
    tracing::info!(signal, drain_time = ?drain, "stopping: requests may end, no new connections are taken");
    draining.store(true, Ordering::Relaxed);
    server.drain();
    stop.send_replace(true);
    tokio::spawn(async move {
        let (signal, code) = signals.next().await;
        tracing::warn!(signal, "a second signal: stopping at once");
        std::process::exit(code);
    });
    let drained = serving.await;
    looking.abort();
    server.close().await;
    match drained {
        Ok(drained) if drained.cut > 0 => {
            tracing::warn!(connections = drained.cut, "stopped; requests that had not ended were cut off");
        }
        Ok(_) => tracing::info!("stopped"),
        Err(error) => return Err(Failure::broken(format!("serving ended: {error}"))),
    }
    Ok(())
}

/// The API.
fn api(server: &Server, keys: &Arc<Keyring>, settings: &Settings) -> Router {
    let options = RouterOptions::default()
        .authorize(Arc::clone(keys))
        .body_limit(settings.body_limit.0)
        .origins(settings.cors_origin.0.iter().map(String::as_str));
    server.router_with(options)
}

async fn bind(address: SocketAddr) -> Result<TcpListener, Failure> {
    TcpListener::bind(address).await.map_err(|error| {
        let told = match error.kind() {
            std::io::ErrorKind::AddrInUse => "it is taken: stop who has it, or give another with --listen".to_owned(),
            std::io::ErrorKind::PermissionDenied => "this user may not: take a port above 1023".to_owned(),
            std::io::ErrorKind::AddrNotAvailable => "it is not an address of this machine".to_owned(),
            _ => error.to_string(),
        };
        Failure::listen(format!("{address} cannot be listened on: {told}"))
    })
}

/// The keys, and whether they are needed.
async fn open_keys(settings: &Settings) -> Result<Keyring, Failure> {
    let database = settings.database.clone();
    let opened = tokio::task::spawn_blocking(move || {
        let store = database.keys()?;
        let any = store.any()?;
        Ok::<(Arc<dyn KeyStore>, bool), Failure>((store, any))
    });
    let (store, any) = opened.await.map_err(|error| Failure::broken(error.to_string()))??;
    let ring = Keyring::new(store, Arc::new(SystemClock));
    if settings.listen.ip().is_loopback() {
        return Ok(ring.open_until_the_first_key(OPEN_NAMESPACE.into()));
    }
    if !any {
        let told = format!(
            "{} can be reached by others and there are no API keys: make one with `aiki-server keys create`, or listen \
             on 127.0.0.1",
            settings.listen
        );
        return Err(Failure::no_keys(told));
    }
    Ok(ring)
}
