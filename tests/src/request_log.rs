//! What is asked of an HTTP server: a relay in front of it that notes every request line.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use musicfs_test_utils::file_servers::Rclone;

use crate::home::Home;

/// Begin of the methods that are noted.
const METHODS: [&str; 5] = ["GET /", "HEAD /", "PUT /", "POST /", "DELETE /"];

/// Passes on what clients and a server say, and notes the clients' request lines. Ends with the process.
#[derive(Debug)]
pub struct RequestLog {
    addr: SocketAddr,
    lines: Arc<Mutex<Vec<String>>>,
}

impl RequestLog {
    /// Starts a relay to the server at `upstream`.
    ///
    /// # Panics
    /// When no port can be had.
    pub fn start(upstream: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap_or_else(|error| panic!("no port: {error}"));
        let addr = listener.local_addr().unwrap_or_else(|error| panic!("no address: {error}"));
        let lines: Arc<Mutex<Vec<String>>> = Arc::default();
        let noted = lines.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(upstream) else { continue };
                let (Ok(from_server), Ok(to_client)) = (server.try_clone(), client.try_clone()) else {
                    continue;
                };
                let noted = noted.clone();
                std::thread::spawn(move || relay(client, server, |bytes| note(&noted, bytes)));
                std::thread::spawn(move || relay(from_server, to_client, |_| {}));
            }
        });
        Self { addr, lines }
    }

    /// Returns where clients connect to.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Returns the request lines since the last call.
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.lines.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn relay(mut from: TcpStream, mut to: TcpStream, seen: impl Fn(&[u8])) {
    let mut buffer = [0; 16 << 10];
    while let Ok(len @ 1..) = from.read(&mut buffer) {
        seen(&buffer[..len]);
        if to.write_all(&buffer[..len]).is_err() {
            break;
        }
    }
    // The other side may have closed it already.
    let _ = to.shutdown(Shutdown::Write);
}

/// A client sends a request's head at once; what it sends else has no line of this form.
fn note(lines: &Mutex<Vec<String>>, bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let requests = text.lines().filter(|line| METHODS.iter().any(|method| line.starts_with(method)));
    lines.lock().unwrap_or_else(PoisonError::into_inner).extend(requests.map(str::to_owned));
}

/// What opens the bucket.
const KEY_ID: &str = "KEYID1234567";
const SECRET: &str = "SECRET1234567890";

/// Configures a home for the bucket `music` of an S3 server, which is asked nothing unless something is wanted.
///
/// # Panics
/// When the disk refuses.
pub fn configure_bucket(home: &Home, server: SocketAddr) {
    let file = home.folder("secret");
    fs::write(&file, SECRET).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    home.configure(&format!(
        "rescan_interval = \"0\"\nhealth_interval = \"1h\"\n[[origins]]\nid = \"s3\"\n\
         url = \"s3://{KEY_ID}@music?endpoint=http://{server}&region=us-east-1\"\nsecret_access_key_file = \"{}\"\n",
        file.display(),
    ));
}

/// An S3 server with a bucket, and what is asked of it.
#[derive(Debug)]
pub struct LoggedS3 {
    _server: Rclone,
    log: RequestLog,
}

/// What was asked of an S3 server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// Pages of listings.
    pub pages: usize,
    /// Listings of the first few names, which ask whether the bucket is there.
    pub probes: usize,
    /// The request lines of all else.
    pub others: Vec<String>,
}

impl LoggedS3 {
    /// Serves the folder `music` in `dir` as a bucket, and configures a home for it.
    ///
    /// # Panics
    /// When it does not start, or the disk refuses.
    pub fn start(dir: &Path, home: &Home) -> Self {
        let server = Rclone::s3(dir, KEY_ID, SECRET);
        let log = RequestLog::start(server.addr());
        configure_bucket(home, log.addr());
        Self { _server: server, log }
    }

    /// Returns what was asked since the last call.
    pub fn asked(&self) -> Asked {
        let mut asked = Asked::default();
        for line in self.log.take() {
            let is_listing = line.starts_with("GET /music?") && line.contains("list-type=2");
            let is_probe = line.contains("delimiter=");
            match (is_listing, is_probe) {
                (true, false) => asked.pages += 1,
                (true, true) => asked.probes += 1,
                _ => asked.others.push(line),
            }
        }
        asked
    }
}
