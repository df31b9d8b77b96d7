//! A TCP proxy that can go bad.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

/// How long a slow line needs in one direction, in milliseconds: there and back it is 500 ms, give or take 400.
const SLOW_MS: std::ops::RangeInclusive<u64> = 50..=450;
/// One request of so many on a slow line resets its connection.
const RESETS: u64 = 20;
/// At most so many pieces are on their way on a slow line.
const ON_THE_WAY: usize = 64;

/// What the proxy does with bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Passes them on.
    Pass,
    /// Swallows them in both directions and keeps every connection open, new ones too.
    BlackHole,
    /// Passes requests on and swallows replies.
    DropReplies,
    /// Cuts every connection, new ones too.
    Cut,
    /// Passes them on 50 to 450 ms later, in their order; one request of twenty resets its connection.
    Slow,
}

#[derive(Clone, Copy, Debug)]
struct State {
    mode: Mode,
    /// How often connections were cut. Whoever looks too late to see the mode still sees this.
    cuts: u64,
}

/// A proxy on a free loopback port. It ends with this value.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    state: watch::Sender<State>,
    accepted: Arc<AtomicUsize>,
    target: Arc<AtomicU16>,
    task: JoinHandle<()>,
}

#[allow(clippy::expect_used)]
impl Proxy {
    /// Begins to pass bytes to this loopback port.
    ///
    /// # Panics
    /// When no port is free.
    pub async fn to(target: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("its address").port();
        let (state, watched) = watch::channel(State { mode: Mode::Pass, cuts: 0 });
        let accepted = Arc::new(AtomicUsize::new(0));
        let target = Arc::new(AtomicU16::new(target));
        let (count, to) = (accepted.clone(), target.clone());
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::Relaxed);
                let Ok(server) = TcpStream::connect(("127.0.0.1", to.load(Ordering::Relaxed))).await else { continue };
                let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
                let reset = watch::Sender::new(false);
                let (one, other) = (reset.subscribe(), reset.subscribe());
                let requests = Direction { swallowed_in: Mode::BlackHole, reset: Some(reset) };
                let replies = Direction { swallowed_in: Mode::DropReplies, reset: None };
                tokio::spawn(pass(from_client, to_server, watched.clone(), requests, one));
                tokio::spawn(pass(from_server, to_client, watched.clone(), replies, other));
            }
        });
        Self { port, state, accepted, target, task }
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// The port on the loopback interface.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Changes what happens to bytes from now on, on every connection. What was swallowed stays swallowed:
    /// connections that lost bytes are never passed on again.
    pub fn set(&self, mode: Mode) {
        self.state.send_modify(|state| *state = State { mode, cuts: state.cuts + u64::from(mode == Mode::Cut) });
    }

    /// Cuts every connection and passes new ones to another loopback port, as an address does that moves.
    pub fn turn_to(&self, target: u16) {
        self.target.store(target, Ordering::Relaxed);
        self.set(Mode::Cut);
        self.set(Mode::Pass);
    }

    /// Connections that were accepted so far.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One direction of a connection.
struct Direction {
    /// The mode in which its bytes are swallowed, beside the black hole.
    swallowed_in: Mode,
    /// Resets the connection. Only requests do.
    reset: Option<watch::Sender<bool>>,
}

/// Copies until an end closes. Once bytes were swallowed, all that follow are.
async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut state: watch::Receiver<State>,
    direction: Direction,
    mut reset: watch::Receiver<bool>,
) {
    let mut buffer = vec![0; 16 * 1024];
    let mut swallowed = false;
    // What is on its way, with the time at which it arrives.
    let mut late: VecDeque<(Instant, Vec<u8>)> = VecDeque::new();
    let cuts = state.borrow().cuts;
    loop {
        let now = *state.borrow_and_update();
        if now.mode == Mode::Cut || now.cuts != cuts {
            return;
        }
        let read = tokio::select! {
            read = from.read(&mut buffer), if late.len() < ON_THE_WAY => read,
            bytes = arrival(&mut late) => match to.write_all(&bytes).await {
                Ok(()) => continue,
                Err(_) => return,
            },
            changed = state.changed() => match changed {
                Ok(()) => continue,
                Err(_) => return,
            },
            () = was_reset(&mut reset) => {
                let _ = to.as_ref().set_zero_linger();
                return;
            }
        };
        let Ok(count @ 1..) = read else {
            while !late.is_empty() {
                let bytes = arrival(&mut late).await;
                if to.write_all(&bytes).await.is_err() {
                    return;
                }
            }
            return;
        };
        let now = *state.borrow();
        if now.cuts != cuts {
            return;
        }
        swallowed |= now.mode == Mode::BlackHole || now.mode == direction.swallowed_in;
        if swallowed {
            continue;
        }
        if let Some(reset) = direction.reset.as_ref().filter(|_| now.mode == Mode::Slow)
            && fastrand::u64(..RESETS) == 0
        {
            reset.send_replace(true);
            continue;
        }
        let bytes = &buffer[..count];
        if now.mode == Mode::Slow || !late.is_empty() {
            let needs = if now.mode == Mode::Slow { fastrand::u64(SLOW_MS) } else { 0 };
            let before = late.back().map(|(at, _)| *at);
            let at = Instant::now() + Duration::from_millis(needs);
            late.push_back((before.map_or(at, |before| before.max(at)), bytes.to_vec()));
        } else if to.write_all(bytes).await.is_err() {
            return;
        }
    }
}

/// Waits for the reset of a connection; for ever, when the other direction has ended without one. Cancel-safe.
async fn was_reset(reset: &mut watch::Receiver<bool>) {
    let ended = reset.wait_for(|reset| *reset).await.is_err();
    if ended {
        std::future::pending::<()>().await;
    }
}

/// Waits for what arrives next; for ever, when nothing is on its way. Cancel-safe.
async fn arrival(late: &mut VecDeque<(Instant, Vec<u8>)>) -> Vec<u8> {
    match late.front() {
        Some((at, _)) => sleep_until(*at).await,
        None => std::future::pending().await,
    }
    late.pop_front().map(|(_, bytes)| bytes).unwrap_or_default()
}
