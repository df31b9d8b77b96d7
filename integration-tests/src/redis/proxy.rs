//! A TCP proxy that can go bad.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

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
                tokio::spawn(pass(from_client, to_server, watched.clone(), Mode::BlackHole));
                tokio::spawn(pass(from_server, to_client, watched.clone(), Mode::DropReplies));
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

/// Copies until an end closes. Once bytes were swallowed, all that follow are.
async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut state: watch::Receiver<State>, swallows: Mode) {
    let mut buffer = vec![0; 16 * 1024];
    let mut swallowed = false;
    let cuts = state.borrow().cuts;
    loop {
        let now = *state.borrow_and_update();
        if now.mode == Mode::Cut || now.cuts != cuts {
            return;
        }
        let read = tokio::select! {
            read = from.read(&mut buffer) => read,
            changed = state.changed() => match changed {
                Ok(()) => continue,
                Err(_) => return,
            },
        };
        let Ok(count @ 1..) = read else { return };
        let now = *state.borrow();
        if now.cuts != cuts {
            return;
        }
        swallowed |= now.mode == Mode::BlackHole || now.mode == swallows;
        if !swallowed && to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}
