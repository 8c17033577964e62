//! The packets of SFTP version 3, as far as reading needs them.
//!
//! Paths and handles are bytes throughout: OpenSSH's handles are binary numbers, and a name on a Unix disk need
//! not be UTF-8.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use musicfs_core::{FileVersion, OriginErrorKind, UnixNanos};

use crate::wire::Failure;

/// The protocol's version that is spoken; servers speak no other.
const VERSION: u32 = 3;
const FXP_INIT: u8 = 1;
const FXP_VERSION: u8 = 2;
const FXP_OPEN: u8 = 3;
const FXP_CLOSE: u8 = 4;
const FXP_READ: u8 = 5;
const FXP_FSTAT: u8 = 8;
const FXP_OPENDIR: u8 = 11;
const FXP_READDIR: u8 = 12;
const FXP_REALPATH: u8 = 16;
const FXP_STAT: u8 = 17;
const FXP_STATUS: u8 = 101;
const FXP_HANDLE: u8 = 102;
const FXP_DATA: u8 = 103;
const FXP_NAME: u8 = 104;
const FXP_ATTRS: u8 = 105;
const FXP_EXTENDED: u8 = 200;
const FXP_EXTENDED_REPLY: u8 = 201;

const ATTR_SIZE: u32 = 0x1;
const ATTR_UIDGID: u32 = 0x2;
const ATTR_PERMISSIONS: u32 = 0x4;
const ATTR_ACMODTIME: u32 = 0x8;
const ATTR_EXTENDED: u32 = 0x8000_0000;
const OPEN_READ: u32 = 1;

const STATUS_EOF: u32 = 1;

const S_IFMT: u32 = 0o170_000;
const S_IFDIR: u32 = 0o040_000;
const S_IFREG: u32 = 0o100_000;
const S_IFLNK: u32 = 0o120_000;

/// A question to the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ask<'a> {
    Open(&'a [u8]),
    Close(&'a [u8]),
    Read { handle: &'a [u8], offset: u64, len: u32 },
    Stat(&'a [u8]),
    FStat(&'a [u8]),
    OpenDir(&'a [u8]),
    ReadDir(&'a [u8]),
    RealPath(&'a [u8]),
    Limits,
}

impl Ask<'_> {
    /// Writes the packet, with its length.
    pub(super) fn encode(&self, id: u32) -> Bytes {
        let mut out = BytesMut::with_capacity(64);
        out.put_u32(0);
        let (kind, text) = match self {
            Self::Open(path) => (FXP_OPEN, *path),
            Self::Close(handle) => (FXP_CLOSE, *handle),
            Self::Read { handle, .. } => (FXP_READ, *handle),
            Self::Stat(path) => (FXP_STAT, *path),
            Self::FStat(handle) => (FXP_FSTAT, *handle),
            Self::OpenDir(path) => (FXP_OPENDIR, *path),
            Self::ReadDir(handle) => (FXP_READDIR, *handle),
            Self::RealPath(path) => (FXP_REALPATH, *path),
            Self::Limits => (FXP_EXTENDED, &b"limits@openssh.com"[..]),
        };
        out.put_u8(kind);
        out.put_u32(id);
        put_string(&mut out, text);
        match self {
            Self::Open(_) => {
                out.put_u32(OPEN_READ);
                out.put_u32(0);
            }
            Self::Read { offset, len, .. } => {
                out.put_u64(*offset);
                out.put_u32(*len);
            }
            _ => {}
        }
        sealed(out)
    }
}

/// Writes the packet that begins a session.
pub(super) fn init() -> Bytes {
    let mut out = BytesMut::new();
    out.put_u32(0);
    out.put_u8(FXP_INIT);
    out.put_u32(VERSION);
    sealed(out)
}

fn sealed(mut out: BytesMut) -> Bytes {
    let len = (out.len() - 4) as u32;
    out[..4].copy_from_slice(&len.to_be_bytes());
    out.freeze()
}

fn put_string(out: &mut BytesMut, text: &[u8]) {
    out.put_u32(text.len() as u32);
    out.put_slice(text);
}

/// What kind of thing a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Folder,
    Link,
    Special,
}

/// What the server tells of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Attrs {
    pub(super) kind: Option<Kind>,
    pub(super) size: Option<u64>,
    pub(super) mtime: Option<UnixNanos>,
}

impl Attrs {
    /// Returns the version, where the attributes suffice for one.
    pub(super) fn version(&self) -> Option<FileVersion> {
        Some(FileVersion { size: self.size?, mtime: self.mtime, etag: None })
    }
}

/// Servers' read limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    pub(super) read: u64,
    pub(super) handles: u64,
}

/// An answer of the server.
#[derive(Debug)]
pub(super) enum Said {
    Status { code: u32, text: String },
    Handle(Bytes),
    Data(Bytes),
    Names(Vec<(Bytes, Attrs)>),
    Attrs(Attrs),
    Extended(Bytes),
}

impl Said {
    /// Tells whether the file or folder has no more.
    pub(super) fn is_end(&self) -> bool {
        matches!(self, Self::Status { code: STATUS_EOF, .. })
    }

    /// Makes the failure of an answer that is not the one wanted.
    pub(super) fn failure(&self) -> Failure {
        match self {
            Self::Status { code, text } => {
                let (kind, name) = match code {
                    1 => (OriginErrorKind::Corrupt, "unexpected end of file"),
                    2 => (OriginErrorKind::NotFound, "no such file"),
                    3 => (OriginErrorKind::Denied, "permission denied"),
                    4 => (OriginErrorKind::Unavailable, "failure"),
                    5 => (OriginErrorKind::Invalid, "bad message"),
                    6 | 7 => (OriginErrorKind::Unavailable, "the server lost its connection"),
                    8 => (OriginErrorKind::Unsupported, "not supported by the server"),
                    _ => (OriginErrorKind::Unavailable, "unknown status"),
                };
                Failure::new(kind, format!("the server says: {text} ({name}, status {code})"))
            }
            _ => Failure::garbled("the server's answer is not one to what was asked"),
        }
    }
}

/// Takes pieces off a packet, each checked against what is left.
pub(super) struct Reader(pub(super) Bytes);

impl Reader {
    fn u8(&mut self) -> Option<u8> {
        (self.0.remaining() >= 1).then(|| self.0.get_u8())
    }

    fn u32(&mut self) -> Option<u32> {
        (self.0.remaining() >= 4).then(|| self.0.get_u32())
    }

    fn u64(&mut self) -> Option<u64> {
        (self.0.remaining() >= 8).then(|| self.0.get_u64())
    }

    fn string(&mut self) -> Option<Bytes> {
        let len = self.u32()? as usize;
        (self.0.remaining() >= len).then(|| self.0.split_to(len))
    }

    fn attrs(&mut self) -> Option<Attrs> {
        let flags = self.u32()?;
        let mut attrs = Attrs { kind: None, size: None, mtime: None };
        if flags & ATTR_SIZE != 0 {
            attrs.size = Some(self.u64()?);
        }
        if flags & ATTR_UIDGID != 0 {
            self.u64()?;
        }
        if flags & ATTR_PERMISSIONS != 0 {
            attrs.kind = Some(match self.u32()? & S_IFMT {
                S_IFDIR => Kind::Folder,
                S_IFREG => Kind::File,
                S_IFLNK => Kind::Link,
                _ => Kind::Special,
            });
        }
        if flags & ATTR_ACMODTIME != 0 {
            self.u32()?;
            attrs.mtime = Some(UnixNanos::from_parts(i64::from(self.u32()?), 0));
        }
        if flags & ATTR_EXTENDED != 0 {
            for _ in 0..self.u32()? {
                self.string()?;
                self.string()?;
            }
        }
        Some(attrs)
    }

    fn names(&mut self) -> Option<Vec<(Bytes, Attrs)>> {
        let count = self.u32()?;
        // Not allocated by what the server claims, but by what is there.
        let mut names = Vec::new();
        for _ in 0..count {
            let name = self.string()?;
            self.string()?;
            names.push((name, self.attrs()?));
        }
        Some(names)
    }
}

/// Reads the server's word on its version; what it can do beyond that is asked for when needed.
pub(super) fn version(body: Bytes) -> Result<(), Failure> {
    let mut reader = Reader(body);
    match (reader.u8(), reader.u32()) {
        (Some(FXP_VERSION), Some(version)) if version >= VERSION => Ok(()),
        (Some(FXP_VERSION), Some(version)) => Err(Failure::lost(
            OriginErrorKind::Unsupported,
            format!("the server speaks SFTP version {version}; version 3 is needed"),
        )),
        _ => Err(Failure::garbled("the server does not speak SFTP")),
    }
}

/// Reads the number of the question that a packet answers.
pub(super) fn id_of(body: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(body.get(1..5)?.try_into().ok()?))
}

/// Reads an answer.
pub(super) fn decode(body: Bytes) -> Result<Said, Failure> {
    parse(body).ok_or_else(|| Failure::garbled("a packet of the server is cut short or of an unknown kind"))
}

fn parse(body: Bytes) -> Option<Said> {
    let mut reader = Reader(body);
    let kind = reader.u8()?;
    reader.u32()?;
    Some(match kind {
        FXP_STATUS => {
            let code = reader.u32()?;
            // Old servers leave the text out.
            let text = reader.string().unwrap_or_default();
            Said::Status { code, text: String::from_utf8_lossy(&text).into_owned() }
        }
        FXP_HANDLE => Said::Handle(reader.string()?),
        FXP_DATA => Said::Data(reader.string()?),
        FXP_NAME => Said::Names(reader.names()?),
        FXP_ATTRS => Said::Attrs(reader.attrs()?),
        FXP_EXTENDED_REPLY => Said::Extended(reader.0),
        _ => return None,
    })
}

/// Reads the answer to [`Ask::Limits`]: packet, read, write, handles; 0 where there is no limit.
pub(super) fn limits(body: Bytes) -> Option<Limits> {
    let mut reader = Reader(body);
    reader.u64()?;
    let read = reader.u64()?;
    reader.u64()?;
    Some(Limits { read, handles: reader.u64()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn read_is_written_as_the_protocol_says() {
        let frame = Ask::Read { handle: b"\xff\x01", offset: 0x1_0000_0002, len: 9 }.encode(7);
        let expected = b"\0\0\0\x17\x05\0\0\0\x07\0\0\0\x02\xff\x01\0\0\0\x01\0\0\0\x02\0\0\0\x09";
        assert_eq!(&frame[..], expected);
    }

    #[test]
    fn names_are_read_with_the_attributes_that_are_there() {
        let mut body = BytesMut::new();
        body.put_u8(FXP_NAME);
        body.put_u32(3);
        body.put_u32(2);
        for (name, flags) in [(&b"a\xfe"[..], ATTR_SIZE | ATTR_PERMISSIONS | ATTR_ACMODTIME), (b"b", 0)] {
            put_string(&mut body, name);
            put_string(&mut body, b"long name");
            body.put_u32(flags);
            if flags != 0 {
                body.put_u64(5);
                body.put_u32(0o100_644);
                body.put_u32(1);
                body.put_u32(2);
            }
        }
        let Said::Names(names) = decode(body.freeze()).unwrap() else { panic!("not names") };
        assert_eq!(names[0].0, &b"a\xfe"[..]);
        let mtime = Some(UnixNanos(2_000_000_000));
        assert_eq!(names[0].1, Attrs { kind: Some(Kind::File), size: Some(5), mtime });
        assert_eq!(names[1].1, Attrs { kind: None, size: None, mtime: None });
    }

    #[test]
    fn packet_cut_anywhere_is_refused_and_not_trusted() {
        let mut body = BytesMut::new();
        body.put_u8(FXP_NAME);
        body.put_u32(3);
        body.put_u32(u32::MAX);
        put_string(&mut body, b"a");
        put_string(&mut body, b"a");
        body.put_u32(ATTR_SIZE);
        body.put_u64(5);
        let body = body.freeze();
        for cut in 0..body.len() {
            assert!(decode(body.slice(..cut)).is_err(), "{cut}");
        }
    }
}
