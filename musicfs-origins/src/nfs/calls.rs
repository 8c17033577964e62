//! The calls of NFS version 3 (RFC 1813), of its mount protocol and of the port mapper, as far as reading needs
//! them.

use bytes::Bytes;
use musicfs_core::{FileVersion, OriginErrorKind, UnixNanos};

use super::rpc::{Program, RpcLink};
use super::xdr::{Reader, Writer};
use crate::wire::{Answer, Failure};

pub(super) const NFS: Program = Program { number: 100_003, version: 3 };
pub(super) const MOUNT: Program = Program { number: 100_005, version: 3 };
pub(super) const PORTMAP: Program = Program { number: 100_000, version: 2 };
/// Where the port mapper listens.
pub(super) const PORTMAP_PORT: u16 = 111;

const PMAP_GETPORT: u32 = 3;
const MNT: u32 = 1;
const GETATTR: u32 = 1;
const LOOKUP: u32 = 3;
const READLINK: u32 = 5;
const READ: u32 = 6;
const READDIRPLUS: u32 = 17;
const FSINFO: u32 = 19;
const TCP: u32 = 6;

/// Longest file handle of version 3.
const MAX_HANDLE: usize = 64;
/// Bytes of names, and of everything, that one call for a folder's entries asks for.
const LISTING: (u32, u32) = (32 << 10, 256 << 10);

/// How a server names a file or folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FileHandle(Bytes);

impl FileHandle {
    /// Makes a handle of these bytes. They are copied, so that no whole answer is kept in memory for them.
    pub(super) fn of(bytes: &[u8]) -> Self {
        Self(Bytes::copy_from_slice(bytes))
    }
}

/// What went wrong with one call.
#[derive(Clone, Debug)]
pub(super) enum Trouble {
    /// The handle names nothing any more: it must be looked up again.
    Stale,
    /// Anything else.
    Failed(Failure),
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<Trouble> for Failure {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Failed(failure) => failure,
            Trouble::Stale => {
                let why = "the server forgets at once what it named (NFS3ERR_STALE)";
                Failure::new(OriginErrorKind::Unavailable, why)
            }
        }
    }
}

impl Trouble {
    fn of_status(status: u32) -> Self {
        use OriginErrorKind as K;
        let (kind, name) = match status {
            1 => (K::Denied, "not permitted"),
            2 => (K::NotFound, "no such file"),
            5 => (K::Unavailable, "input/output error"),
            13 => (K::Denied, "permission denied"),
            20 => (K::NotFound, "not a folder"),
            21 => (K::Invalid, "it is a folder"),
            22 => (K::Invalid, "invalid argument"),
            63 => (K::Invalid, "name too long"),
            70 | 10_001 => return Self::Stale,
            10_004 => (K::Unsupported, "not supported by the server"),
            10_008 => (K::Throttled { after: None }, "the server asks to come back later"),
            _ => (K::Unavailable, "server failure"),
        };
        Self::Failed(Failure::new(kind, format!("the server says: {name} (NFS status {status})")))
    }
}

/// What kind of thing a handle names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Folder,
    Link,
    Special,
}

/// What the server tells of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Attributes {
    pub(super) kind: Kind,
    pub(super) version: FileVersion,
    pub(super) filesystem: u64,
    pub(super) number: u64,
}

impl Attributes {
    fn take(reader: &mut Reader) -> Result<Self, Failure> {
        let kind = match reader.u32()? {
            1 => Kind::File,
            2 => Kind::Folder,
            5 => Kind::Link,
            _ => Kind::Special,
        };
        // Mode, links, owner, group.
        reader.raw(16)?;
        let size = reader.u64()?;
        // Space used, device.
        reader.raw(16)?;
        let (filesystem, number) = (reader.u64()?, reader.u64()?);
        // Time of access.
        reader.u64()?;
        let mtime = UnixNanos::from_parts(i64::from(reader.u32()?), i64::from(reader.u32()?));
        // Time of change.
        reader.u64()?;
        let version = FileVersion { size, mtime: Some(mtime), etag: None };
        Ok(Self { kind, version, filesystem, number })
    }

    /// Returns one number for the file.
    pub(super) fn id(&self) -> u64 {
        self.number ^ self.filesystem.rotate_left(32)
    }
}

/// A piece of a file.
pub(super) struct Piece {
    /// The file after the piece was read, where the server says.
    pub(super) attributes: Option<Attributes>,
    pub(super) data: Bytes,
}

/// An entry of a folder.
pub(super) struct Entry {
    pub(super) name: Bytes,
    pub(super) attributes: Option<Attributes>,
    pub(super) handle: Option<FileHandle>,
}

/// Where a listing goes on.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cookie {
    entry: u64,
    listing: [u8; 8],
}

/// Part of a folder.
pub(super) struct Entries {
    pub(super) entries: Vec<Entry>,
    /// Goes on with the next part; `None` at the end.
    pub(super) next: Option<Cookie>,
}

fn handle(reader: &mut Reader) -> Result<FileHandle, Failure> {
    let handle = reader.opaque()?;
    if handle.len() > MAX_HANDLE {
        return Err(Failure::garbled("the server sent a handle that is too long"));
    }
    Ok(FileHandle::of(&handle))
}

fn status(reader: &mut Reader) -> Result<(), Trouble> {
    match reader.u32()? {
        0 => Ok(()),
        status => Err(Trouble::of_status(status)),
    }
}

/// Asks the port mapper where a service is.
pub(super) async fn port_of(link: &RpcLink, program: Program) -> Result<u16, Failure> {
    let arguments = Writer::default().u32(program.number).u32(program.version).u32(TCP).u32(0).done();
    let port = link.call(PMAP_GETPORT, arguments).await?.u32()?;
    match u16::try_from(port) {
        Ok(port) if port > 0 => Ok(port),
        _ => {
            let what = if program == NFS { "NFS version 3 by TCP" } else { "the mount protocol by TCP" };
            Err(Failure::new(OriginErrorKind::Unsupported, format!("the server does not offer {what}")))
        }
    }
}

/// Asks for the root of an export.
pub(super) async fn mount(link: &RpcLink, export: &[u8]) -> Result<FileHandle, Failure> {
    let mut reader = link.call(MNT, Writer::default().opaque(export).done()).await?;
    let shown = String::from_utf8_lossy(export);
    match reader.u32()? {
        0 => handle(&mut reader),
        status @ (1 | 13) => {
            let why = format!(
                "the server does not let this machine mount {shown} (status {status}); look at its exports"
            );
            Err(Failure::new(OriginErrorKind::Denied, why))
        }
        // An export that is not there is not an empty library.
        status @ (2 | 20) => {
            let why =
                format!("the server has no export {shown} (status {status}); look at the export's path");
            Err(Failure::new(OriginErrorKind::NoRoot, why))
        }
        status => {
            let why = format!("the server could not mount {shown} (status {status})");
            Err(Failure::new(OriginErrorKind::Unavailable, why))
        }
    }
}

/// Asks for the longest read that the server serves.
pub(super) async fn read_limit(link: &RpcLink, root: &FileHandle) -> Result<u32, Trouble> {
    let mut reader = link.call(FSINFO, Writer::default().opaque(&root.0).done()).await?;
    status(&mut reader)?;
    reader.option(Attributes::take)?;
    Ok(reader.u32()?)
}

pub(super) async fn attributes(link: &RpcLink, of: &FileHandle) -> Result<Attributes, Trouble> {
    let mut reader = link.call(GETATTR, Writer::default().opaque(&of.0).done()).await?;
    status(&mut reader)?;
    Ok(Attributes::take(&mut reader)?)
}

pub(super) async fn lookup(
    link: &RpcLink,
    folder: &FileHandle,
    name: &[u8],
) -> Result<(FileHandle, Attributes), Trouble> {
    let arguments = Writer::default().opaque(&folder.0).opaque(name).done();
    let mut reader = link.call(LOOKUP, arguments).await?;
    status(&mut reader)?;
    let found = handle(&mut reader)?;
    match reader.option(Attributes::take)? {
        Some(attributes) => Ok((found, attributes)),
        None => {
            let attributes = attributes(link, &found).await?;
            Ok((found, attributes))
        }
    }
}

pub(super) async fn read_link(link: &RpcLink, of: &FileHandle) -> Result<Bytes, Trouble> {
    let mut reader = link.call(READLINK, Writer::default().opaque(&of.0).done()).await?;
    status(&mut reader)?;
    reader.option(Attributes::take)?;
    Ok(reader.opaque()?)
}

/// Sends a call for a piece of a file.
pub(super) async fn ask_read(
    link: &RpcLink,
    of: &FileHandle,
    offset: u64,
    len: u32,
) -> Result<Answer<Reader>, Failure> {
    link.send(READ, Writer::default().opaque(&of.0).u64(offset).u32(len).done()).await
}

/// Takes the piece out of what [`ask_read`] brought.
pub(super) fn piece(mut reader: Reader) -> Result<Piece, Trouble> {
    status(&mut reader)?;
    let attributes = reader.option(Attributes::take)?;
    let (count, _end) = (reader.u32()?, reader.flag()?);
    let data = reader.opaque()?;
    if count as usize != data.len() {
        return Err(Failure::garbled("the server contradicts itself about the length of a read").into());
    }
    Ok(Piece { attributes, data })
}

/// Lists part of a folder.
pub(super) async fn list(
    link: &RpcLink,
    folder: &FileHandle,
    from: Option<Cookie>,
) -> Result<Entries, Trouble> {
    let Cookie { entry, listing } = from.unwrap_or_default();
    let arguments =
        Writer::default().opaque(&folder.0).u64(entry).raw(&listing).u32(LISTING.0).u32(LISTING.1);
    let mut reader = link.call(READDIRPLUS, arguments.done()).await?;
    status(&mut reader)?;
    reader.option(Attributes::take)?;
    let mut listing = [0; 8];
    listing.copy_from_slice(&reader.raw(8)?);
    let mut entries = Vec::new();
    let mut last = entry;
    while reader.flag()? {
        reader.u64()?;
        let name = reader.opaque()?;
        last = reader.u64()?;
        let attributes = reader.option(Attributes::take)?;
        let handle = reader.option(handle)?;
        if !matches!(&name[..], b"." | b"..") {
            entries.push(Entry { name, attributes, handle });
        }
    }
    let end = reader.flag()?;
    if !end && last == entry {
        return Err(Failure::garbled("the server's listing does not get on").into());
    }
    Ok(Entries { entries, next: (!end).then_some(Cookie { entry: last, listing }) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_where_the_protocol_has_them() {
        let mut writer = Writer::default().u32(1);
        for n in 0..4 {
            writer = writer.u32(n);
        }
        writer = writer.u64(12_345).u64(0).u64(0).u64(7).u64(99).u64(0).u32(5).u32(6).u64(0);
        let bytes = writer.done();
        assert_eq!(bytes.len(), 84);
        let attributes = Attributes::take(&mut Reader::new(bytes)).unwrap();
        assert_eq!(attributes.kind, Kind::File);
        let mtime = Some(UnixNanos(5_000_000_006));
        assert_eq!(attributes.version, FileVersion { size: 12_345, mtime, etag: None });
        assert_eq!((attributes.filesystem, attributes.number), (7, 99));
    }

    #[test]
    fn read_that_contradicts_itself_is_refused() {
        let reply =
            |count: u32| Reader::new(Writer::default().u32(0).u32(0).u32(count).u32(1).opaque(b"abc").done());
        assert_eq!(piece(reply(3)).unwrap_or_else(|_| panic!("refused")).data, &b"abc"[..]);
        assert!(piece(reply(4)).is_err());
        let stale = Reader::new(Writer::default().u32(70).u32(0).done());
        assert!(matches!(piece(stale), Err(Trouble::Stale)));
    }
}
