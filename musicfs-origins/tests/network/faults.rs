//! What a network that fails makes of every kind of origin that is reached over one, behind all its layers.

use std::any::Any;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use musicfs_core::{
    ByteRange, Clock, Origin, OriginError, OriginErrorKind, OriginPath, PartSink, SystemClock,
};
use musicfs_origins::{
    HttpOrigin, Jitter, LayerConfig, Layered, Limits, NfsOrigin, RetryPolicy, S3Config, S3Credentials,
    S3Origin, Secret, SftpOrigin, SmbOrigin, Timeouts, WebConfig, WebdavOrigin, layered,
};
use musicfs_test_utils::eventually;
use musicfs_test_utils::fault_proxy::{FaultProxy, Toxic};
use musicfs_test_utils::file_servers::{Rclone, Samba, Sshd, WebServer};

use crate::tree::{content, listing, path, stored};
use crate::{nfs, sftp, smb};

const LONG: usize = 1_000_000;
/// Of the file that is read as it comes: more than any server gives at once.
const LONGER: usize = 3_000_000;

/// Kinds of origins, each with a server of its own.
#[derive(Clone, Copy)]
enum Kind {
    S3,
    Webdav,
    Http,
    Sftp,
    Smb,
    Nfs,
}

/// An origin whose server is behind a proxy.
struct Behind {
    files: Vec<(OriginPath, Bytes)>,
    proxy: Arc<FaultProxy>,
    origin: Arc<dyn Origin>,
    _keep: Box<dyn Any + Send>,
}

fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock::new())
}

impl Behind {
    async fn start(kind: Kind) -> Self {
        let mut files: Vec<_> = (0..500)
            .map(|n| (path(format!("{:02} # %/{n} 曲.flac", n % 20)), Bytes::from(content(n, n as usize))))
            .collect();
        files.push((path("long.flac"), content(7, LONG).into()));
        files.push((path("longer.flac"), content(8, LONGER).into()));
        let within = |(file, bytes): &(OriginPath, Bytes)| (path(format!("music/{file}")), bytes.clone());
        let dir = stored(&files.iter().map(within).collect::<Vec<_>>());
        let music = dir.path().join("music");
        let before = async |addr: SocketAddr| Arc::new(FaultProxy::start(addr).await.unwrap());
        let (proxy, origin, server): (Arc<FaultProxy>, Arc<dyn Origin>, Box<dyn Any + Send>) = match kind {
            Kind::S3 => {
                let (id, secret) = ("ACCESSKEY12345", "SECRETKEY1234567890");
                let server = Rclone::s3(dir.path(), id, secret);
                let proxy = before(server.addr()).await;
                let config = S3Config {
                    bucket: "music".into(),
                    endpoint: Some(format!("http://{}", proxy.addr())),
                    credentials: S3Credentials::Keys {
                        id: id.into(),
                        secret: Secret::new(secret),
                        session_token: None,
                    },
                    ..S3Config::default()
                };
                let origin = S3Origin::new("s3", &config, clock()).unwrap();
                (proxy, Arc::new(origin), Box::new(server))
            }
            Kind::Webdav => {
                let server = Rclone::webdav(&music, None);
                let proxy = before(server.addr()).await;
                let config = WebConfig::new(format!("http://{}/", proxy.addr()));
                let origin = WebdavOrigin::new("dav", &config, clock()).unwrap();
                (proxy, Arc::new(origin), Box::new(server))
            }
            Kind::Http => {
                let server = WebServer::nginx(&music, false);
                let proxy = before(server.addr()).await;
                let config = WebConfig::new(format!("http://{}/", proxy.addr()));
                let origin = HttpOrigin::new("web", &config, clock()).unwrap();
                (proxy, Arc::new(origin), Box::new(server))
            }
            Kind::Sftp => {
                let server = Sshd::start();
                let proxy = before(server.addr()).await;
                let config = sftp::at(&server, proxy.addr(), &music);
                (proxy, Arc::new(SftpOrigin::new("ssh", config)), Box::new(server))
            }
            Kind::Smb => {
                let server = Samba::start(&music);
                let proxy = before(server.addr()).await;
                let origin = SmbOrigin::new("smb", smb::config(&server, proxy.addr()));
                (proxy, Arc::new(origin), Box::new(server))
            }
            Kind::Nfs => {
                let server = Rclone::nfs(&music);
                let proxy = before(server.addr()).await;
                let origin = NfsOrigin::new("nfs", nfs::config(proxy.addr()));
                (proxy, Arc::new(origin), Box::new(server))
            }
        };
        Self { files, proxy, origin, _keep: Box::new((server, dir)) }
    }

    fn layered(&self, config: &LayerConfig) -> Layered {
        layered(Arc::clone(&self.origin), config, &clock(), Jitter::steady())
    }

    fn long(&self) -> Bytes {
        self.files[self.files.len() - 2].1.clone()
    }

    fn longer(&self) -> Bytes {
        self.files[self.files.len() - 1].1.clone()
    }
}

/// Reads so many bytes of the long file, of the version that is there.
async fn read(
    origin: &dyn Origin,
    version: &musicfs_core::FileVersion,
    len: u64,
) -> Result<Bytes, OriginError> {
    origin.read(&path("long.flac"), version, ByteRange::new(0, len)).await
}

async fn version(origin: &dyn Origin) -> musicfs_core::FileVersion {
    origin.stat(&path("long.flac")).await.unwrap().version
}

/// Short enough for a test to wait for, long enough for a handshake on a machine that is busy.
fn impatient() -> LayerConfig {
    let short = Duration::from_secs(2);
    LayerConfig {
        timeouts: Timeouts { first_byte: short, stall_window: short, stall_rate: 1000 },
        limits: Limits::default(),
        retry: RetryPolicy::never(),
    }
}

async fn failures_are_told_apart_and_pass_with_their_cause(kind: Kind) {
    let behind = Behind::start(kind).await;
    let (proxy, stack) = (&behind.proxy, behind.layered(&impatient()));
    let origin = &*stack.origin;
    let version = version(origin).await;
    let all = LONG as u64;

    proxy.down();
    assert_eq!(read(origin, &version, 100).await.unwrap_err().kind, OriginErrorKind::Unavailable);
    proxy.heal();
    assert!(read(origin, &version, 100).await.unwrap() == behind.long()[..100]);
    for (toxic, kind) in [
        (Toxic::ResetAfter(300_000), OriginErrorKind::Unavailable),
        (Toxic::LimitData(300_000), OriginErrorKind::Unavailable),
        (Toxic::StallAfter(300_000), OriginErrorKind::TimedOut),
    ] {
        proxy.cut();
        proxy.set([toxic]);
        let error = read(origin, &version, all).await.unwrap_err();
        assert_eq!(error.kind, kind, "{toxic:?}: {error}: {:?}", error.source);
    }
    proxy.cut();
    proxy.set([Toxic::StallAfter(0)]);
    assert_eq!(origin.health().await.unwrap_err().kind, OriginErrorKind::TimedOut);

    proxy.cut();
    proxy.heal();
    assert!(read(origin, &version, all).await.unwrap() == behind.long());
    assert_eq!(listing(origin).await.len(), behind.files.len());
    assert_eq!(stack.metrics.snapshot().errors, [("unavailable", 3), ("timed_out", 2)]);
}

/// Reads all of the longer file as it comes; returns that, and how much had passed when the first of it came.
async fn read_as_it_comes(behind: &Behind, origin: &dyn Origin) -> (Result<(), OriginError>, Vec<u8>, u64) {
    let longer = path("longer.flac");
    let version = origin.stat(&longer).await.unwrap().version;
    behind.proxy.cut();
    let before = behind.proxy.traffic().downstream;
    let came = Arc::new(Mutex::new((Vec::new(), 0)));
    let (into, proxy) = (Arc::clone(&came), Arc::clone(&behind.proxy));
    let parts = PartSink::new(move |part: Bytes| {
        let (all, first) = &mut *into.lock().unwrap();
        if all.is_empty() {
            *first = proxy.traffic().downstream - before;
        }
        assert!(part.len() <= 1 << 20, "a part of {} bytes", part.len());
        all.extend_from_slice(&part);
    });
    let range = ByteRange::new(0, version.size);
    let read = origin.read_parts(&longer, &version, range, &parts).await;
    let (all, first) = came.lock().unwrap().clone();
    assert!(all == behind.longer()[..all.len()]);
    (read, all, first)
}

async fn first_part_is_handed_on_long_before_the_last_has_come(kind: Kind) {
    let behind = Behind::start(kind).await;
    let stack = behind.layered(&impatient());
    behind.proxy.set([Toxic::Bandwidth(1_500_000)]);
    let (read, came, first) = read_as_it_comes(&behind, &*stack.origin).await;
    read.unwrap();
    assert_eq!(came.len(), LONGER);
    assert!(first < LONGER as u64 / 3, "{first} bytes had passed");
}

async fn what_comes_before_a_stall_is_handed_on(kind: Kind) {
    let behind = Behind::start(kind).await;
    let stack = behind.layered(&impatient());
    behind.proxy.set([Toxic::StallAfter(400_000)]);
    let (read, came, _) = read_as_it_comes(&behind, &*stack.origin).await;
    assert_eq!(read.unwrap_err().kind, OriginErrorKind::TimedOut);
    assert!(came.len() > 200_000, "{} bytes", came.len());
}

async fn read_that_breaks_off_goes_on_where_it_was(kind: Kind) {
    for toxic in [Toxic::LimitData(1_200_000), Toxic::ResetAfter(1_200_000)] {
        let behind = Behind::start(kind).await;
        let mut config = LayerConfig::default();
        config.retry.pauses = vec![Duration::from_millis(20); 50];
        let stack = behind.layered(&config);
        // Each connection brings a part: one that began at the beginning would not get to the end.
        behind.proxy.set([toxic]);
        let (read, came, _) = read_as_it_comes(&behind, &*stack.origin).await;
        read.unwrap();
        assert_eq!(came.len(), LONGER);
    }
}

async fn slow_line_that_keeps_bringing_bytes_is_not_given_up(kind: Kind) {
    let behind = Behind::start(kind).await;
    let stack = behind.layered(&impatient());
    let version = version(&*stack.origin).await;
    behind.proxy.set([Toxic::Bandwidth(250_000), Toxic::Latency(Duration::from_millis(20))]);
    let start = clock();
    let whole = read(&*stack.origin, &version, LONG as u64).await.unwrap();
    assert!(whole == behind.long());
    // Longer than silence is allowed to last.
    assert!(start.now().0 > Duration::from_millis(3500));
}

async fn reader_notices_nothing_of_a_server_that_comes_back(kind: Kind) {
    let behind = Behind::start(kind).await;
    let stack = behind.layered(&LayerConfig::default());
    let version = version(&*stack.origin).await;
    behind.proxy.down();
    let before = behind.proxy.traffic().accepted;
    let (read, ()) = tokio::join!(read(&*stack.origin, &version, 1000), async {
        eventually("a try that fails", || behind.proxy.traffic().accepted > before).await;
        behind.proxy.heal();
    });
    assert!(read.unwrap() == behind.long()[..1000]);
    assert_eq!(stack.metrics.snapshot().failures(), 0);
}

async fn listing_over_a_line_that_breaks_again_and_again_is_complete(kind: Kind) {
    const CUTS: u64 = 6;
    let behind = Behind::start(kind).await;
    let mut config = LayerConfig::default();
    config.retry.pauses = vec![Duration::from_millis(20); 50];
    let stack = behind.layered(&config);
    behind.proxy.set([Toxic::Bandwidth(150_000)]);
    let breaking = async {
        for _ in 0..CUTS {
            let before = behind.proxy.traffic().downstream;
            eventually("more of the listing", || behind.proxy.traffic().downstream > before + 5_000).await;
            behind.proxy.cut();
        }
        behind.proxy.heal();
    };
    let (entries, ()) = tokio::join!(listing(&*stack.origin), breaking);
    let mut listed: Vec<_> = entries.into_iter().map(|entry| entry.path).collect();
    let mut expected: Vec<_> = behind.files.iter().map(|(path, _)| path.clone()).collect();
    listed.sort();
    expected.sort();
    assert_eq!(listed, expected);
    assert!(behind.proxy.traffic().accepted > CUTS, "{:?}", behind.proxy.traffic());
}

/// Runs all checks for one kind.
macro_rules! faults {
    ($($name:ident: $kind:expr;)*) => { $(faults!(@ $name, $kind,
        failures_are_told_apart_and_pass_with_their_cause,
        first_part_is_handed_on_long_before_the_last_has_come,
        what_comes_before_a_stall_is_handed_on,
        read_that_breaks_off_goes_on_where_it_was,
        slow_line_that_keeps_bringing_bytes_is_not_given_up,
        reader_notices_nothing_of_a_server_that_comes_back,
        listing_over_a_line_that_breaks_again_and_again_is_complete
    );)* };
    (@ $name:ident, $kind:expr, $($check:ident),*) => {
        mod $name {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $check() {
                super::$check($kind).await;
            })*
        }
    };
}

faults! {
    over_s3: super::Kind::S3;
    over_webdav: super::Kind::Webdav;
    over_http: super::Kind::Http;
    over_sftp: super::Kind::Sftp;
    over_smb: super::Kind::Smb;
    over_nfs: super::Kind::Nfs;
}
