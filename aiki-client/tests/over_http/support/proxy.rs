//! A proxy that loses answers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Passes requests on to a server. The answers to the next few are lost: the connection is cut once the
/// server has begun to answer, so that the request was carried out.
pub struct Proxy {
    pub address: SocketAddr,
    to_lose: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Proxy {
    pub async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, to_lose) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
        let losing = Arc::clone(&to_lose);
        let task = tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                tokio::spawn(pass(client, server, Arc::clone(&losing)));
            }
        });
        Self { address, to_lose, task }
    }

    /// Loses the next answers.
    pub fn lose(&self, answers: usize) {
        self.to_lose.store(answers, Ordering::SeqCst);
    }

    /// How many are still to be lost.
    pub fn left(&self) -> usize {
        self.to_lose.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pass(client: TcpStream, server: SocketAddr, to_lose: Arc<AtomicUsize>) {
    let Ok(server) = TcpStream::connect(server).await else { return };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let up = tokio::spawn(async move {
        // Ends with the connection.
        let _ = tokio::io::copy(&mut from_client, &mut to_server).await;
    });
    let mut buffer = vec![0; 65_536];
    loop {
        match from_server.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(read) => {
                let lose = to_lose.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
                if lose || to_client.write_all(&buffer[..read]).await.is_err() {
                    break;
                }
            }
        }
    }
    up.abort();
}
