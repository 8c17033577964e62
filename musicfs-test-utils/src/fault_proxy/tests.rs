//! The proxy before a server that sends as many bytes as a client asks for.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use super::{Direction, FaultProxy, Toxic};
use crate::{LIMIT, eventually};

/// A server that answers a number with so many bytes, and ends.
async fn server() -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let Ok(wanted) = client.read_u32().await else { return };
                let bytes: Vec<u8> = (0..wanted).map(|n| (n % 251) as u8).collect();
                let _ = client.write_all(&bytes).await;
                let _ = client.shutdown().await;
            });
        }
    });
    addr
}

struct Got {
    bytes: Vec<u8>,
    error: Option<ErrorKind>,
    first: Duration,
    all: Duration,
}

async fn ask(proxy: &FaultProxy, wanted: u32) -> Got {
    let start = Instant::now();
    let mut got = Got { bytes: Vec::new(), error: None, first: Duration::ZERO, all: Duration::ZERO };
    let mut stream = match TcpStream::connect(proxy.addr()).await {
        Ok(stream) => stream,
        Err(error) => return Got { error: Some(error.kind()), ..got },
    };
    // It may have been reset already, which reading tells too.
    let _ = stream.write_u32(wanted).await;
    let mut piece = vec![0; 65536];
    loop {
        match tokio::time::timeout(LIMIT, stream.read(&mut piece)).await.expect("in time") {
            Ok(0) => break,
            Ok(n) => {
                if got.bytes.is_empty() {
                    got.first = start.elapsed();
                }
                got.bytes.extend_from_slice(&piece[..n]);
            }
            Err(error) => {
                got.error = Some(error.kind());
                break;
            }
        }
    }
    got.all = start.elapsed();
    let right: Vec<u8> = (0..wanted).map(|n| (n % 251) as u8).collect();
    assert!(right.starts_with(&got.bytes), "bytes came damaged");
    got
}

async fn proxy() -> FaultProxy {
    FaultProxy::start(server().await).await.unwrap()
}

#[tokio::test]
async fn proxy_without_toxics_passes_all_and_counts() {
    let proxy = proxy().await;
    let got = ask(&proxy, 3_000_000).await;
    assert_eq!((got.bytes.len(), got.error), (3_000_000, None));
    assert_eq!(ask(&proxy, 10).await.bytes.len(), 10);
    eventually("connections are closed", || proxy.traffic().open == 0).await;
    let traffic = proxy.traffic();
    assert_eq!((traffic.accepted, traffic.upstream, traffic.downstream), (2, 8, 3_000_010));
}

#[tokio::test]
async fn latency_delays_without_costing_throughput() {
    let proxy = proxy().await;
    proxy.add(Direction::Upstream, Toxic::Latency(Duration::from_millis(100)));
    proxy.add(Direction::Downstream, Toxic::Latency(Duration::from_millis(100)));
    let got = ask(&proxy, 8_000_000).await;
    assert_eq!((got.bytes.len(), got.error), (8_000_000, None));
    assert!(got.first >= Duration::from_millis(200), "{:?}", got.first);
    // A pause for each piece would cost 120 of them.
    assert!(got.all < Duration::from_secs(5), "{:?}", got.all);
}

#[tokio::test]
async fn handshake_delays_a_connection_once() {
    let proxy = proxy().await;
    proxy.set([Toxic::Handshake(Duration::from_millis(150))]);
    let got = ask(&proxy, 10).await;
    assert_eq!(got.bytes.len(), 10);
    assert!(got.first >= Duration::from_millis(150), "{:?}", got.first);
}

#[tokio::test]
async fn bandwidth_is_not_exceeded_and_nothing_is_lost() {
    let proxy = proxy().await;
    proxy.set([Toxic::Bandwidth(500_000)]);
    let got = ask(&proxy, 250_000).await;
    assert_eq!((got.bytes.len(), got.error), (250_000, None));
    assert!(got.all >= Duration::from_millis(480), "{:?}", got.all);
}

#[tokio::test]
async fn slicer_and_slow_close_change_no_byte() {
    let proxy = proxy().await;
    let delay = Duration::from_millis(100);
    proxy.set([Toxic::Slicer { size: 7, delay: Duration::ZERO }, Toxic::SlowClose(delay)]);
    let got = ask(&proxy, 10_000).await;
    assert_eq!((got.bytes.len(), got.error), (10_000, None));
    assert!(got.all >= delay, "{:?}", got.all);
}

#[tokio::test]
async fn reset_is_a_reset_and_a_limit_an_orderly_end() {
    let proxy = proxy().await;
    proxy.set([Toxic::ResetAfter(1000)]);
    let got = ask(&proxy, 1_000_000).await;
    assert_eq!(got.error, Some(ErrorKind::ConnectionReset));
    assert!(got.bytes.len() <= 1000);

    proxy.set([Toxic::LimitData(1000)]);
    let got = ask(&proxy, 1_000_000).await;
    assert_eq!((got.bytes.len(), got.error), (1000, None));

    proxy.set([Toxic::ResetPeer(Duration::from_millis(50)), Toxic::Bandwidth(10_000)]);
    let got = ask(&proxy, 1_000_000).await;
    assert_eq!(got.error, Some(ErrorKind::ConnectionReset));
    assert!(got.all >= Duration::from_millis(50));
}

#[tokio::test]
async fn stall_holds_back_until_it_is_healed() {
    let proxy = proxy().await;
    proxy.set([Toxic::StallAfter(1000)]);
    let (got, ()) = tokio::join!(ask(&proxy, 100_000), async {
        eventually("it stalls", || proxy.traffic().downstream == 1000).await;
        proxy.heal();
    });
    assert_eq!((got.bytes.len(), got.error), (100_000, None));
}

#[tokio::test]
async fn turns_are_counted_when_the_client_speaks_again() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let proxy = FaultProxy::start(listener.local_addr().unwrap()).await.unwrap();
    let mut client = TcpStream::connect(proxy.addr()).await.unwrap();
    let (mut server, _) = listener.accept().await.unwrap();
    for turns in 0..3 {
        client.write_u32(1).await.unwrap();
        server.read_u32().await.unwrap();
        client.write_u32(2).await.unwrap();
        server.read_u32().await.unwrap();
        assert_eq!(proxy.traffic().turns, turns);
        server.write_u32(3).await.unwrap();
        client.read_u32().await.unwrap();
    }
}

#[tokio::test]
async fn timeout_lets_nothing_through_and_ends() {
    let proxy = proxy().await;
    proxy.set([Toxic::Timeout(Duration::from_millis(50))]);
    let got = ask(&proxy, 1000).await;
    assert_eq!((got.bytes.len(), got.error), (0, None));
    assert!(got.all >= Duration::from_millis(50));
}

#[tokio::test]
async fn down_resets_all_until_healed() {
    let proxy = proxy().await;
    proxy.set([Toxic::StallAfter(0)]);
    let (got, ()) = tokio::join!(ask(&proxy, 1000), async {
        eventually("the request is through", || proxy.traffic().upstream == 4).await;
        proxy.down();
    });
    assert_eq!((got.bytes.len(), got.error), (0, Some(ErrorKind::ConnectionReset)));
    let refused = ask(&proxy, 1000).await;
    assert!(refused.error.is_some() && refused.bytes.is_empty());
    proxy.heal();
    assert_eq!(ask(&proxy, 1000).await.bytes.len(), 1000);
}

#[tokio::test]
async fn server_that_is_not_there_resets() {
    let gone = TcpListener::bind(("127.0.0.1", 0)).await.unwrap().local_addr().unwrap();
    let proxy = FaultProxy::start(gone).await.unwrap();
    assert!(ask(&proxy, 1).await.error.is_some());
}
