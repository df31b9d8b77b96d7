//! `aiki-server healthcheck`.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpStream};
use std::time::Duration;

use super::args::HealthcheckFlags;
use super::exit::Failure;
use super::settings;

/// For connecting, and for the answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// A longer answer is none of ours.
const LONGEST: u64 = 64 * 1024;

/// Asks the server; an error says what it answered.
pub(crate) fn run(flags: &HealthcheckFlags) -> Result<(), Failure> {
    let mut address = settings::load_address(flags)?;
    // Who listens everywhere is found on this machine.
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    let failed = |error: std::io::Error| Failure::broken(format!("{address} does not answer: {error}"));
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).map_err(failed)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
    let path = if flags.ready { "/readyz" } else { "/healthz" };
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n").map_err(failed)?;
    let mut answer = String::new();
    stream.take(LONGEST).read_to_string(&mut answer).map_err(failed)?;
    match answer.split_whitespace().nth(1) {
        Some("200") => Ok(()),
        _ => {
            let body = answer.split_once("\r\n\r\n").map(|(_, body)| body).unwrap_or_default();
            let status = answer.lines().next().unwrap_or_default();
            Err(Failure::broken(format!("{address}{path} answered {status}: {body}")))
        }
    }
}
