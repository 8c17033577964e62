//! The messages of SMB 2 and 3 (MS-SMB2), as far as reading needs them.

use bytes::Bytes;
use musicfs_core::{FileVersion, OriginErrorKind, UnixNanos};

use super::crypto::{SEAL_HEAD, SEAL_MARK, SIGNATURE, Sealer, Signer};
use super::utf16;
use crate::wire::Failure;

pub(super) const NEGOTIATE: u16 = 0;
pub(super) const SESSION_SETUP: u16 = 1;
pub(super) const TREE_CONNECT: u16 = 3;
const CREATE: u16 = 5;
const CLOSE: u16 = 6;
const READ: u16 = 8;
const QUERY_DIRECTORY: u16 = 14;
const QUERY_INFO: u16 = 16;

/// Length of a message's head.
pub(super) const HEAD: usize = 64;
const MARK: [u8; 4] = [0xfe, b'S', b'M', b'B'];
const FLAG_ASYNC: u32 = 0x2;
const FLAG_RELATED: u32 = 0x4;
const FLAG_SIGNED: u32 = 0x8;

const STATUS_OK: u32 = 0;
const STATUS_PENDING: u32 = 0x103;
pub(super) const STATUS_MORE_PROCESSING: u32 = 0xc000_0016;
const STATUS_NO_MORE_FILES: u32 = 0x8000_0006;
const STATUS_END_OF_FILE: u32 = 0xc000_0011;
const STATUS_SESSION_DELETED: u32 = 0xc000_0203;
const STATUS_SESSION_EXPIRED: u32 = 0xc000_035c;
const STATUS_SHARE_GONE: u32 = 0xc000_00c9;
const STATUS_DISCONNECTED: u32 = 0xc000_020c;

/// Bytes that one credit pays for.
pub(super) const CREDIT: u32 = 64 << 10;
/// Stands for the handle that the message before, in the same frame, opened.
const SAME_HANDLE: HandleId = [0xff; 16];
/// Seconds from where Windows counts to 1970, in its units of 100 ns.
const EPOCH: i64 = 116_444_736_000_000_000;

const ATTRIBUTE_FOLDER: u32 = 0x10;
const ATTRIBUTE_DEVICE: u32 = 0x40;
const READ_DATA: u32 = 0x1;
const READ_ATTRIBUTES: u32 = 0x80;
const SYNCHRONIZE: u32 = 0x10_0000;
const OPTION_FOLDER: u32 = 0x1;
const OPTION_NOT_FOLDER: u32 = 0x40;
/// Listings with an id for each entry.
const ID_BOTH_DIRECTORY: u8 = 37;
/// What is told of an open file: times, lengths and attributes, in so many bytes.
const NETWORK_OPEN: u8 = 34;
const NETWORK_OPEN_LEN: u32 = 56;

/// How the server names an open file.
pub(super) type HandleId = [u8; 16];

/// What is to be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Want {
    /// A file, to be read.
    File,
    /// A folder, to be listed.
    Folder,
    /// Anything, to be looked at.
    Look,
}

/// A request, but for its head.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) command: u16,
    pub(super) body: Vec<u8>,
    /// Credits that it costs.
    pub(super) charge: u16,
}

/// Appends little-endian numbers.
fn put(out: &mut Vec<u8>, parts: &[&[u8]]) {
    for part in parts {
        out.extend_from_slice(part);
    }
}

impl Request {
    pub(super) fn new(command: u16, body: Vec<u8>) -> Self {
        Self { command, body, charge: 1 }
    }

    /// Opens what is at `name`, a path below the share in UTF-16.
    pub(super) fn open(name: &[u8], want: Want) -> Self {
        let (access, options) = match want {
            Want::File => (READ_DATA | READ_ATTRIBUTES | SYNCHRONIZE, OPTION_NOT_FOLDER),
            Want::Folder => (READ_DATA | READ_ATTRIBUTES | SYNCHRONIZE, OPTION_FOLDER),
            Want::Look => (READ_ATTRIBUTES | SYNCHRONIZE, 0),
        };
        let mut out = 57u16.to_le_bytes().to_vec();
        // Security flags, no oplock; act as the user.
        put(&mut out, &[&[0, 0], &2u32.to_le_bytes(), &[0; 16], &access.to_le_bytes(), &[0; 4]]);
        // All others may go on doing what they want; only what exists is opened.
        put(&mut out, &[&7u32.to_le_bytes(), &1u32.to_le_bytes(), &options.to_le_bytes()]);
        put(&mut out, &[&120u16.to_le_bytes(), &(name.len() as u16).to_le_bytes(), &[0; 8]]);
        put(&mut out, &[if name.is_empty() { &[0] } else { name }]);
        Self::new(CREATE, out)
    }

    /// Closes a handle, and asks for the file's attributes at that time. `None` is the one opened in this frame.
    pub(super) fn close(handle: Option<&HandleId>) -> Self {
        let mut out = 24u16.to_le_bytes().to_vec();
        put(&mut out, &[&1u16.to_le_bytes(), &[0; 4], handle.unwrap_or(&SAME_HANDLE)]);
        Self::new(CLOSE, out)
    }

    /// Reads from a file.
    pub(super) fn read(handle: Option<&HandleId>, offset: u64, len: u32) -> Self {
        let mut out = 49u16.to_le_bytes().to_vec();
        put(&mut out, &[&[0x50, 0], &len.to_le_bytes(), &offset.to_le_bytes()]);
        put(&mut out, &[handle.unwrap_or(&SAME_HANDLE), &[0; 16], &[0]]);
        Self { charge: charge(len), ..Self::new(READ, out) }
    }

    /// Looks at an open file.
    pub(super) fn look(handle: Option<&HandleId>) -> Self {
        let mut out = 41u16.to_le_bytes().to_vec();
        // What is asked for is about a file; nothing is sent along.
        put(&mut out, &[&[1, NETWORK_OPEN], &NETWORK_OPEN_LEN.to_le_bytes(), &[0; 16]]);
        put(&mut out, &[handle.unwrap_or(&SAME_HANDLE), &[0]]);
        Self::new(QUERY_INFO, out)
    }

    /// Lists entries of a folder, from where the last listing by this handle ended.
    pub(super) fn list(handle: &HandleId, len: u32) -> Self {
        let pattern = utf16::encode("*");
        let mut out = 33u16.to_le_bytes().to_vec();
        put(&mut out, &[&[ID_BOTH_DIRECTORY, 0], &[0; 4], handle, &96u16.to_le_bytes()]);
        put(&mut out, &[&(pattern.len() as u16).to_le_bytes(), &len.to_le_bytes(), &pattern]);
        Self { charge: charge(len), ..Self::new(QUERY_DIRECTORY, out) }
    }
}

/// Returns what an answer of that length costs.
pub(super) fn charge(len: u32) -> u16 {
    u16::try_from(len.div_ceil(CREDIT)).unwrap_or(u16::MAX).max(1)
}

/// What goes into the head of each message of a session.
pub(super) struct Framer {
    pub(super) session: u64,
    pub(super) tree: u32,
    pub(super) signer: Option<Signer>,
    pub(super) sealer: Option<Sealer>,
}

impl Framer {
    /// Writes a frame of requests, the later ones about what the first opens. `first` is the number of the first
    /// of them; `credits` are asked for.
    pub(super) fn frame(&self, requests: &[Request], first: u64, credits: u16) -> Vec<u8> {
        let mut out = Vec::new();
        let mut id = first;
        for (n, request) in requests.iter().enumerate() {
            let at = out.len();
            let last = n + 1 == requests.len();
            let mut flags = if n > 0 { FLAG_RELATED } else { 0 };
            if self.signer.is_some() && self.sealer.is_none() {
                flags |= FLAG_SIGNED;
            }
            let len = HEAD + request.body.len();
            let next = if last { 0 } else { len.next_multiple_of(8) };
            put(&mut out, &[&MARK, &64u16.to_le_bytes(), &request.charge.to_le_bytes(), &[0; 4]]);
            put(&mut out, &[&request.command.to_le_bytes(), &(request.charge + credits).to_le_bytes()]);
            put(&mut out, &[&flags.to_le_bytes(), &(next as u32).to_le_bytes(), &id.to_le_bytes(), &[0; 4]]);
            put(&mut out, &[&self.tree.to_le_bytes(), &self.session.to_le_bytes(), &[0; 16]]);
            out.extend_from_slice(&request.body);
            if !last {
                out.resize(at + next, 0);
            }
            if let (Some(signer), None) = (&self.signer, &self.sealer) {
                let signature = signer.sign(&out[at..]);
                out[at + SIGNATURE.start..at + SIGNATURE.end].copy_from_slice(&signature);
            }
            id += u64::from(request.charge);
        }
        match &self.sealer {
            Some(sealer) => sealer.seal(&out).unwrap_or_default(),
            None => out,
        }
    }
}

impl Framer {
    /// Takes a frame of the server, decrypted and with all signatures verified. Its first message is returned,
    /// which knows where the next begins.
    pub(super) fn open(&self, mut frame: Vec<u8>) -> Result<Reply, Failure> {
        let sealed = frame.starts_with(&SEAL_MARK);
        match (&self.sealer, sealed) {
            (Some(sealer), true) => {
                let opened = sealer.open(&mut frame).is_some();
                if !opened {
                    return Err(Failure::garbled("a message of the server was changed on its way"));
                }
                return Reply::new(Bytes::from(frame).slice(SEAL_HEAD..));
            }
            (None, true) => return Err(Failure::garbled("the server encrypts without having been asked to")),
            (_, false) => {}
        }
        let first = Reply::new(frame.into())?;
        for message in first.messages() {
            let message = message?;
            // What only says that a session is gone, or to be patient, need not be signed.
            if message.ends_session() || message.is_interim() {
                continue;
            }
            let wrong = match (&self.sealer, &self.signer) {
                (Some(_), _) => true,
                (None, Some(signer)) => !signer.verify(message.message()),
                (None, None) => false,
            };
            if wrong {
                return Err(Failure::garbled("a message of the server is not signed as it must be"));
            }
        }
        Ok(first)
    }
}

/// Returns the number of the message that a frame begins with, where that can be read already.
pub(super) fn id_of(frame: &[u8]) -> Option<u64> {
    let id = frame.starts_with(&MARK).then(|| frame.get(24..32)).flatten()?;
    Some(u64::from_le_bytes(id.try_into().ok()?))
}

/// A message of the server.
#[derive(Clone, Debug)]
pub(super) struct Reply(Bytes);

impl Reply {
    /// Takes a message, head and body.
    pub(super) fn new(message: Bytes) -> Result<Self, Failure> {
        if message.len() > HEAD && message[..4] == MARK {
            Ok(Self(message))
        } else {
            Err(Failure::garbled("the server does not speak SMB 2 or 3"))
        }
    }

    fn number<const N: usize>(&self, at: usize) -> Result<[u8; N], Failure> {
        let bytes = self.0.get(at..at + N).and_then(|bytes| bytes.try_into().ok());
        bytes.ok_or_else(|| Failure::garbled("a message of the server is cut short"))
    }

    pub(super) fn u16(&self, at: usize) -> Result<u16, Failure> {
        self.number(at).map(u16::from_le_bytes)
    }

    pub(super) fn u32(&self, at: usize) -> Result<u32, Failure> {
        self.number(at).map(u32::from_le_bytes)
    }

    pub(super) fn u64(&self, at: usize) -> Result<u64, Failure> {
        self.number(at).map(u64::from_le_bytes)
    }

    /// Returns part of the message, as counted from its beginning.
    pub(super) fn part(&self, at: usize, len: usize) -> Result<Bytes, Failure> {
        match at.checked_add(len) {
            Some(end) if at >= HEAD && end <= self.0.len() => Ok(self.0.slice(at..end)),
            _ if len == 0 => Ok(Bytes::new()),
            _ => Err(Failure::garbled("a message of the server points outside of itself")),
        }
    }

    pub(super) fn message(&self) -> &Bytes {
        &self.0
    }

    // The head is there, whatever else is not.
    pub(super) fn status(&self) -> u32 {
        self.u32(8).unwrap_or(u32::MAX)
    }

    pub(super) fn credits(&self) -> u16 {
        self.u16(14).unwrap_or(0)
    }

    pub(super) fn id(&self) -> u64 {
        self.u64(24).unwrap_or(u64::MAX)
    }

    pub(super) fn session(&self) -> u64 {
        self.u64(40).unwrap_or(0)
    }

    pub(super) fn tree(&self) -> u32 {
        self.u32(36).unwrap_or(0)
    }

    fn flags(&self) -> u32 {
        self.u32(16).unwrap_or(0)
    }

    /// Tells where the next message in the same frame begins; 0 when there is none.
    fn next(&self) -> usize {
        self.u32(20).unwrap_or(0) as usize
    }

    /// Takes the frame apart, of which this is the first message.
    pub(super) fn messages(&self) -> impl Iterator<Item = Result<Reply, Failure>> {
        let mut rest = Some(self.0.clone());
        std::iter::from_fn(move || {
            let reply = match Reply::new(rest.take()?) {
                Ok(reply) => reply,
                Err(failure) => return Some(Err(failure)),
            };
            match reply.next() {
                0 => Some(Ok(reply)),
                next if next < reply.0.len() => {
                    rest = Some(reply.0.slice(next..));
                    Some(Reply::new(reply.0.slice(..next)))
                }
                _ => Some(Err(Failure::garbled("a message of the server points outside of itself"))),
            }
        })
    }

    /// Tells whether it says no more than that the answer takes longer.
    pub(super) fn is_interim(&self) -> bool {
        self.status() == STATUS_PENDING && self.flags() & FLAG_ASYNC != 0
    }

    /// Tells whether it says that the session is no more, which nobody is left to sign.
    fn ends_session(&self) -> bool {
        matches!(self.status(), STATUS_SESSION_DELETED | STATUS_SESSION_EXPIRED)
    }

    /// Tells whether it says that nothing more can come by this connection.
    pub(super) fn ends_all(&self) -> bool {
        self.ends_session() || matches!(self.status(), STATUS_SHARE_GONE | STATUS_DISCONNECTED)
    }

    pub(super) fn is_signed(&self) -> bool {
        self.flags() & FLAG_SIGNED != 0
    }

    /// Fails when the server says that it failed.
    pub(super) fn good(self) -> Result<Self, Failure> {
        match self.status() {
            STATUS_OK => Ok(self),
            status => Err(of_status(status)),
        }
    }
}

/// Sorts what a server says.
pub(super) fn of_status(status: u32) -> Failure {
    use OriginErrorKind as K;
    let (kind, name) = match status {
        0xc000_000f | 0xc000_0033 | 0xc000_0034 | 0xc000_0039 | 0xc000_003a | 0xc000_0103 | 0xc000_0056 => {
            (K::NotFound, "no such file")
        }
        0xc000_0022 => (K::Denied, "access denied"),
        0xc000_006a | 0xc000_006d | 0xc000_0064 => {
            (K::Denied, "wrong user or password; look at the user, the password and the domain")
        }
        0xc000_006e..=0xc000_0072 | 0xc000_015b | 0xc000_0193 | 0xc000_0224 | 0xc000_0234 => {
            (K::Denied, "the account may not log in; look at it on the server")
        }
        0xc000_00ba => (K::Invalid, "it is a folder"),
        0xc000_000d => (K::Invalid, "invalid parameter"),
        0xc000_00bb => (K::Unsupported, "not supported by the server"),
        0xc000_0257 => (K::Unsupported, "the folder is on another server (DFS)"),
        0x8000_002d => (K::Unsupported, "it is a link that the server does not follow"),
        0xc000_00cc => (K::NoRoot, "there is no such share; look at the address"),
        0xc000_00b5 => (K::TimedOut, "input/output timeout"),
        0xc000_0205 | 0xc000_009a => (K::Throttled { after: None }, "the server is out of resources"),
        0xc000_0043 | 0xc000_0054 => (K::Unavailable, "the file is locked by somebody"),
        STATUS_SESSION_DELETED | STATUS_SESSION_EXPIRED | STATUS_SHARE_GONE | STATUS_DISCONNECTED => {
            return Failure::lost(
                K::Unavailable,
                format!("the server ended the session (status {status:#x})"),
            );
        }
        _ => (K::Unavailable, "failure"),
    };
    Failure::new(kind, format!("the server says: {name} (status {status:#x})"))
}

/// What the server tells of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) version: FileVersion,
    attributes: u32,
}

impl Facts {
    pub(super) fn is_folder(&self) -> bool {
        self.attributes & ATTRIBUTE_FOLDER != 0
    }

    /// Tells whether it is neither file nor folder.
    pub(super) fn is_special(&self) -> bool {
        self.attributes & ATTRIBUTE_DEVICE != 0
    }
}

/// Makes a time of Windows one of ours.
fn time(windows: u64) -> Option<UnixNanos> {
    let since = i64::try_from(windows).ok().filter(|time| *time > 0)?;
    Some(UnixNanos((since - EPOCH).saturating_mul(100)))
}

/// Returns the time of Windows for one of ours.
pub(super) fn windows_time(unix: UnixNanos) -> u64 {
    u64::try_from(unix.0 / 100 + EPOCH).unwrap_or(0)
}

/// Takes the answer to an opening: the handle, and what was opened.
pub(super) fn opened(reply: Reply) -> Result<(HandleId, Facts), Failure> {
    let reply = reply.good()?;
    let version = FileVersion { size: reply.u64(HEAD + 48)?, mtime: time(reply.u64(HEAD + 24)?), etag: None };
    let facts = Facts { version, attributes: reply.u32(HEAD + 56)? };
    Ok((reply.number(HEAD + 64)?, facts))
}

/// Takes the answer to a closing: what the file was like then, where the server says.
pub(super) fn closed(reply: Reply) -> Result<Option<FileVersion>, Failure> {
    let reply = reply.good()?;
    if reply.u16(HEAD + 2)? & 1 == 0 {
        return Ok(None);
    }
    let (mtime, size) = (time(reply.u64(HEAD + 24)?), reply.u64(HEAD + 48)?);
    Ok(Some(FileVersion { size, mtime, etag: None }))
}

/// Takes the answer to a reading: the bytes, none at the end.
pub(super) fn data(reply: Reply) -> Result<Bytes, Failure> {
    if reply.status() == STATUS_END_OF_FILE {
        return Ok(Bytes::new());
    }
    let reply = reply.good()?;
    let [at] = reply.number(HEAD + 2)?;
    reply.part(usize::from(at), reply.u32(HEAD + 4)? as usize)
}

/// Takes the answer to a look at an open file.
pub(super) fn looked(reply: Reply) -> Result<Facts, Failure> {
    let reply = reply.good()?;
    let at = usize::from(reply.u16(HEAD + 2)?);
    let version = FileVersion { size: reply.u64(at + 40)?, mtime: time(reply.u64(at + 16)?), etag: None };
    Ok(Facts { version, attributes: reply.u32(at + 48)? })
}

/// An entry of a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) name: Vec<u8>,
    pub(super) facts: Facts,
    pub(super) id: Option<u64>,
}

/// Takes the answer to a listing: some entries, `None` when there are no more.
pub(super) fn entries(reply: Reply) -> Result<Option<Vec<Entry>>, Failure> {
    if matches!(reply.status(), STATUS_NO_MORE_FILES | 0xc000_000f) {
        return Ok(None);
    }
    let reply = reply.good()?;
    let list = reply.part(usize::from(reply.u16(HEAD + 2)?), reply.u32(HEAD + 4)? as usize)?;
    let cut = || Failure::garbled("a listing of the server is cut short");
    let mut found = Vec::new();
    let mut rest = &list[..];
    while !rest.is_empty() {
        let (next, entry) = entry(rest).ok_or_else(cut)?;
        if !matches!(&entry.name[..], b"." | b"..") {
            found.push(entry);
        }
        match next {
            0 => break,
            next => rest = rest.get(next..).ok_or_else(cut)?,
        }
    }
    Ok(Some(found))
}

fn entry(bytes: &[u8]) -> Option<(usize, Entry)> {
    let u32_at = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let u64_at = |at: usize| Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
    let version = FileVersion { size: u64_at(40)?, mtime: time(u64_at(24)?), etag: None };
    let facts = Facts { version, attributes: u32_at(56)? };
    let name = utf16::decode_name(bytes.get(104..104usize.checked_add(u32_at(60)? as usize)?)?);
    let id = u64_at(96).filter(|id| *id != 0);
    Some((u32_at(0)? as usize, Entry { name, facts, id }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framer(signer: Option<Signer>) -> Framer {
        Framer { session: 5, tree: 6, signer, sealer: None }
    }

    #[test]
    fn requests_in_a_frame_are_aligned_related_and_numbered_by_their_cost() {
        let requests = [
            Request::open(&utf16::encode("a\\b"), Want::File),
            Request::read(None, 7, 200_000),
            Request::close(None),
        ];
        let frame = framer(Some(Signer::AesCmac([1; 16]))).frame(&requests, 10, 32);
        let mut at = 0;
        for (n, id) in [10, 11, 15].into_iter().enumerate() {
            let reply = Reply::new(Bytes::copy_from_slice(&frame[at..])).unwrap();
            let next = reply.next();
            assert_eq!(reply.id(), id);
            assert_eq!((reply.session(), reply.tree()), (5, 6));
            assert_eq!(reply.flags() & FLAG_RELATED != 0, n > 0);
            let end = if next == 0 { frame.len() } else { at + next };
            assert!(next.is_multiple_of(8) && Signer::AesCmac([1; 16]).verify(&frame[at..end]));
            at += next;
        }
        assert_eq!(charge(0), 1);
        assert_eq!((charge(CREDIT), charge(CREDIT + 1)), (1, 2));
    }

    #[test]
    fn reply_that_points_outside_of_itself_is_refused() {
        let frame = framer(None).frame(&[Request::new(READ, vec![17, 0, 80, 0, 255, 0, 0, 0])], 1, 0);
        let reply = Reply::new(frame.into()).unwrap();
        assert!(data(reply).is_err());
        assert!(Reply::new(Bytes::from_static(b"\xfeSMB")).is_err());
    }

    #[test]
    fn times_of_windows_are_those_of_unix() {
        assert_eq!(time(116_444_736_000_000_000 + 15), Some(UnixNanos(1500)));
        assert_eq!(time(0), None);
        assert_eq!(windows_time(UnixNanos(1500)), 116_444_736_000_000_015);
    }
}
