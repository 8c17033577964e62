//! Names and TCP connections.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use musicfs_core::{Clock, MonoTime, OriginErrorKind};
use parking_lot::Mutex;
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

/// How long an address is good for. A name server that is away for less is not noticed; a host that moved is followed
/// sooner, as its old address does not answer.
const KEEP: Duration = Duration::from_secs(60);

/// Names to addresses, remembered for a minute. One lock, held for a look-up.
#[derive(Debug, Default)]
pub(crate) struct Names(Mutex<HashMap<String, (MonoTime, Vec<IpAddr>)>>);

impl Names {
    async fn resolve(&self, host: &str, clock: &dyn Clock) -> Result<Vec<IpAddr>, Failure> {
        let now = clock.now();
        let known =
            self.0.lock().get(host).filter(|(at, _)| now.since(*at) < KEEP).map(|(_, ips)| ips.clone());
        if let Some(known) = known {
            return Ok(known);
        }
        let lost = |text: String| Failure::lost(OriginErrorKind::Dns, text);
        let found = tokio::net::lookup_host((host, 0)).await;
        let found = found.map_err(|e| lost(format!("{host} could not be resolved: {e}")))?;
        let found: Vec<IpAddr> = found.map(|address| address.ip()).collect();
        if found.is_empty() {
            return Err(lost(format!("{host} has no address")));
        }
        self.0.lock().insert(host.to_owned(), (clock.now(), found.clone()));
        Ok(found)
    }

    fn forget(&self, host: &str) {
        self.0.lock().remove(host);
    }
}

/// Resolves `host` and connects to the first of its addresses that answers.
///
/// With `privileged` the source port is one that only root may use.
pub(crate) async fn connect(
    (host, port): (&str, u16),
    names: &Names,
    clock: &dyn Clock,
    privileged: bool,
) -> Result<TcpStream, Failure> {
    let mut last = None;
    for ip in names.resolve(host, clock).await? {
        let address = SocketAddr::new(ip, port);
        let connected =
            if privileged { connect_privileged(address).await } else { TcpStream::connect(address).await };
        match connected.and_then(prepare) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = Some((address, error)),
        }
    }
    names.forget(host);
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

#[cfg(test)]
mod tests {
    use super::*;
    use musicfs_test_utils::ManualClock;

    #[tokio::test]
    async fn address_is_remembered_for_a_minute_and_forgotten_when_it_does_not_answer() {
        let (names, clock) = (Names::default(), ManualClock::new());
        assert!(names.resolve("localhost", &clock).await.is_ok());
        // No resolver knows this name; it is only remembered.
        let ip = IpAddr::from([127, 0, 0, 1]);
        names.0.lock().insert("remembered.invalid".into(), (clock.now(), vec![ip]));
        clock.advance(KEEP - Duration::from_secs(1));
        assert_eq!(names.resolve("remembered.invalid", &clock).await.ok(), Some(vec![ip]));
        clock.advance(Duration::from_secs(1));
        let lost = names.resolve("remembered.invalid", &clock).await;
        assert_eq!(lost.map_err(|failure| failure.kind()).err(), Some(OriginErrorKind::Dns));

        let closed = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr());
        let port = closed.map_or(1, |address| address.port());
        names.0.lock().insert("closed.invalid".into(), (clock.now(), vec![ip]));
        assert!(connect(("closed.invalid", port), &names, &clock, false).await.is_err());
        assert!(!names.0.lock().contains_key("closed.invalid"));
    }
}
