//! Names and TCP connections.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use musicfs_core::{Clock, OriginErrorKind};
use rustix::net::sockopt;
use tokio::net::{TcpSocket, TcpStream};

use super::Failure;

/// Time without traffic after which the kernel asks whether the other end is still there.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
/// Time between two such questions; three unanswered end the connection.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// Source ports that only root may use, as many NFS servers demand; the lower half is left to other services.
const PRIVILEGED: std::ops::Range<u16> = 665..1024;

/// Waits for `work`, but no longer than `limit`.
pub(crate) async fn within<T>(
    clock: &dyn Clock,
    limit: Duration,
    what: &str,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let deadline = clock.sleep_until(clock.now().plus(limit));
    tokio::select! {
        done = work => done,
        () = deadline => Err(Failure::lost(
            OriginErrorKind::TimedOut,
            format!("{what} gave no answer within {} s", limit.as_secs()),
        )),
    }
}

/// Resolves `host` and connects to the first of its addresses that answers.
///
/// With `privileged` the source port is one that only root may use.
pub(crate) async fn connect(host: &str, port: u16, privileged: bool) -> Result<TcpStream, Failure> {
    let resolved = tokio::net::lookup_host((host, port)).await;
    let addresses: Vec<SocketAddr> = resolved
        .map_err(|e| Failure::lost(OriginErrorKind::Dns, format!("{host} could not be resolved: {e}")))?
        .collect();
    let mut last = None;
    for address in addresses {
        let connected =
            if privileged { connect_privileged(address).await } else { TcpStream::connect(address).await };
        match connected.and_then(prepare) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = Some((address, error)),
        }
    }
    match last {
        Some((address, error)) => {
            let kind = Failure::of_io(io::Error::from(error.kind())).kind();
            Err(Failure::lost(kind, format!("{address} cannot be connected to: {error}")))
        }
        None => Err(Failure::lost(OriginErrorKind::Dns, format!("{host} has no address"))),
    }
}

async fn connect_privileged(address: SocketAddr) -> io::Result<TcpStream> {
    let any: SocketAddr = if address.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
    let mut last = io::Error::from(io::ErrorKind::AddrInUse);
    for port in PRIVILEGED.rev() {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        // A port that an earlier connection of ours lingers on will do, but for the same server.
        socket.set_reuseaddr(true)?;
        let tried = match socket.bind(SocketAddr::new(any.ip(), port)) {
            Ok(()) => socket.connect(address).await,
            Err(error) => Err(error),
        };
        match tried {
            Ok(stream) => return Ok(stream),
            Err(error)
                if matches!(error.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::AddrNotAvailable) =>
            {
                last = error;
            }
            Err(error) => return Err(error),
        }
    }
    Err(last)
}

fn prepare(stream: TcpStream) -> io::Result<TcpStream> {
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(&stream, true)?;
    sockopt::set_tcp_keepidle(&stream, KEEPALIVE_IDLE)?;
    sockopt::set_tcp_keepintvl(&stream, KEEPALIVE_INTERVAL)?;
    sockopt::set_tcp_keepcnt(&stream, 3)?;
    Ok(stream)
}
