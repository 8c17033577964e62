//! What it takes to fill a bucket: plain requests.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

/// Asks a server for something, with further `headers`, each ended by a line break.
///
/// # Panics
/// When it refuses.
pub(super) fn ask(addr: SocketAddr, method: &str, target: &str, headers: &str, body: &[u8]) {
    let head = format!(
        "{method} {target} HTTP/1.1\r\nHost: {addr}\r\nContent-Length: {}\r\nConnection: close\r\n{headers}\r\n",
        body.len()
    );
    let answer = TcpStream::connect(addr).and_then(|mut stream| {
        stream.write_all(head.as_bytes())?;
        stream.write_all(body)?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    });
    let answer = answer.unwrap_or_else(|e| panic!("{method} {target}: {e}"));
    let status = answer.split(' ').nth(1).unwrap_or_default();
    assert!(status.starts_with('2'), "{method} {target}: {answer}");
}

/// Escapes a key for a URL, but for the slashes in it.
pub(super) fn escaped(key: &[u8]) -> String {
    key.iter().fold(String::new(), |mut text, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(byte) {
            text.push(char::from(*byte));
        } else {
            // Writing to a string does not fail.
            let _ = write!(text, "%{byte:02X}");
        }
        text
    })
}
