//! Answers that no good server gives, by one that gives them word for word.

use std::net::SocketAddr;
use std::time::Duration;

use musicfs_core::{ByteRange, FileVersion, Origin, OriginErrorKind};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::{clock, path};

/// Starts a server that gives each request the same answer and ends the connection.
async fn saying(answer: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = Vec::new();
                while !request.windows(4).any(|end| end == b"\r\n\r\n") {
                    if !matches!(client.read_buf(&mut request).await, Ok(n) if n > 0) {
                        return;
                    }
                }
                let _ = client.write_all(answer.as_bytes()).await;
                let _ = client.shutdown().await;
            });
        }
    });
    addr
}

fn version() -> FileVersion {
    FileVersion { size: 10, mtime: None, etag: Some("\"v\"".into()) }
}

/// Reads from origins of both kinds of code; they must agree.
async fn read(answer: &'static str) -> Result<String, OriginErrorKind> {
    let addr = saying(answer).await;
    let range = ByteRange::new(2, 5);
    let mut results = Vec::new();
    {
        let config = musicfs_origins::WebConfig::new(format!("http://{addr}/"));
        let origin = musicfs_origins::WebdavOrigin::new("o", &config, clock()).unwrap();
        results.push(origin.read(&path("a"), &version(), range).await.map_err(|e| e.kind));
    }
    {
        let config = musicfs_origins::S3Config {
            bucket: "b".into(),
            endpoint: Some(format!("http://{addr}")),
            credentials: musicfs_origins::S3Credentials::Anonymous,
            ..Default::default()
        };
        let origin = musicfs_origins::S3Origin::new("o", &config, clock()).unwrap();
        results.push(origin.read(&path("a"), &version(), range).await.map_err(|e| e.kind));
    }
    let first = results[0].clone();
    assert!(results.iter().all(|result| *result == first), "{results:?}");
    first.map(|bytes| String::from_utf8(bytes.to_vec()).unwrap())
}

#[tokio::test]
async fn right_bytes_come_of_any_answer_that_holds_them() {
    let part =
        "HTTP/1.1 206 OK\r\nETag: \"v\"\r\nContent-Range: bytes 2-4/10\r\nContent-Length: 3\r\n\r\n234";
    assert_eq!(read(part).await.as_deref(), Ok("234"));
    let whole = "HTTP/1.1 200 OK\r\nETag: \"v\"\r\nContent-Length: 10\r\n\r\n0123456789";
    assert_eq!(read(whole).await.as_deref(), Ok("234"));
    let part_called_whole = "HTTP/1.1 200 OK\r\nETag: \"v\"\r\nContent-Length: 3\r\n\r\n234";
    assert_eq!(read(part_called_whole).await.as_deref(), Ok("234"));
    let until_the_end = "HTTP/1.1 200 OK\r\nETag: \"v\"\r\n\r\n0123456789";
    assert_eq!(read(until_the_end).await.as_deref(), Ok("234"));
    let wider =
        "HTTP/1.1 206 OK\r\nETag: \"v\"\r\nContent-Range: bytes 1-5/10\r\nContent-Length: 5\r\n\r\n12345";
    assert_eq!(read(wider).await.as_deref(), Ok("234"));
}

#[tokio::test]
async fn wrong_bytes_never_come() {
    let changed = Err(OriginErrorKind::Changed);
    let other =
        "HTTP/1.1 206 OK\r\nETag: \"w\"\r\nContent-Range: bytes 2-4/10\r\nContent-Length: 3\r\n\r\nabc";
    assert_eq!(read(other).await, changed);
    let longer =
        "HTTP/1.1 206 OK\r\nETag: \"v\"\r\nContent-Range: bytes 2-4/11\r\nContent-Length: 3\r\n\r\nabc";
    assert_eq!(read(longer).await, changed);
    assert_eq!(read("HTTP/1.1 412 No\r\nContent-Length: 0\r\n\r\n").await, changed);
    assert_eq!(read("HTTP/1.1 416 No\r\nContent-Length: 0\r\n\r\n").await, changed);
    let elsewhere =
        "HTTP/1.1 206 OK\r\nETag: \"v\"\r\nContent-Range: bytes 3-5/10\r\nContent-Length: 3\r\n\r\n345";
    assert_eq!(read(elsewhere).await, Err(OriginErrorKind::Corrupt));
    let cut = "HTTP/1.1 206 OK\r\nETag: \"v\"\r\nContent-Range: bytes 2-4/10\r\nContent-Length: 3\r\n\r\n23";
    assert_eq!(read(cut).await, Err(OriginErrorKind::Unavailable));
    let cut_whole = "HTTP/1.1 200 OK\r\nETag: \"v\"\r\n\r\n0123";
    assert_eq!(read(cut_whole).await, Err(OriginErrorKind::Unavailable));
}

#[tokio::test]
async fn refusals_say_whether_and_when_to_come_back() {
    let wait = |secs: Option<u64>| OriginErrorKind::Throttled { after: secs.map(Duration::from_secs) };
    let cases = [
        ("HTTP/1.1 503 No\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n", wait(Some(7))),
        ("HTTP/1.1 429 No\r\nContent-Length: 0\r\n\r\n", wait(None)),
        ("HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n", OriginErrorKind::Unavailable),
        ("HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n", OriginErrorKind::Unavailable),
        ("HTTP/1.1 504 No\r\nContent-Length: 0\r\n\r\n", OriginErrorKind::TimedOut),
        ("HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n", OriginErrorKind::Denied),
        ("HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n", OriginErrorKind::Denied),
        ("gibberish\r\n\r\n", OriginErrorKind::Unavailable),
    ];
    for (answer, kind) in cases {
        assert_eq!(read(answer).await, Err(kind), "{answer}");
    }
}

#[tokio::test]
async fn kept_connection_that_the_server_drops_costs_no_failure() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let part =
            "HTTP/1.1 206 OK\r\nETag: \"v\"\r\nContent-Range: bytes 2-4/10\r\nContent-Length: 3\r\n\r\n234";
        let mut request = [0; 4096];
        // It promises to keep the connection, and drops it upon the next request.
        for _ in 0..2 {
            let (mut client, _) = listener.accept().await.unwrap();
            let _ = client.read(&mut request).await;
            let _ = client.write_all(part.as_bytes()).await;
            let _ = client.read(&mut request).await;
        }
    });
    let config = musicfs_origins::WebConfig::new(format!("http://{addr}/"));
    let origin = musicfs_origins::WebdavOrigin::new("o", &config, clock()).unwrap();
    for _ in 0..2 {
        let bytes = origin.read(&path("a"), &version(), ByteRange::new(2, 5)).await.unwrap();
        assert_eq!(bytes, "234");
    }
}
