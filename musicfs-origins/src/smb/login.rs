//! Beginning a session: versions, login, share.
//!
//! Nothing is in flight yet, so that messages go one by one. What the server says before the keys are there is
//! made sure of afterwards: with 3.1.1 the keys themselves depend on every byte of it.

use bytes::{BufMut, Bytes, BytesMut};
use musicfs_core::OriginErrorKind;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::crypto::{Scheme, Sealer, Signer, Transcript};
use super::message::{
    self, Framer, HEAD, NEGOTIATE, Reply, Request, SESSION_SETUP, STATUS_MORE_PROCESSING, TREE_CONNECT,
};
use super::ntlm::{self, Account, Random};
use super::{SmbConfig, utf16};
use crate::wire::{self, Failure};

/// Longest message before there is a session.
const MAX_MESSAGE: usize = 64 << 10;
/// Credits asked for with each message until there is a session.
const CREDITS: u16 = 128;
/// Credits without which nothing can be done: an opening, a read and a closing travel in one frame.
const MIN_CREDITS: usize = 4;
const SIGNING_ENABLED: u16 = 1;
const CAP_LARGE_MTU: u32 = 0x4;
const CAP_ENCRYPTION: u32 = 0x40;
const SESSION_GUEST: u16 = 1;
const SESSION_ANONYMOUS: u16 = 2;
const SESSION_ENCRYPTED: u16 = 4;
const SHARE_ENCRYPTED: u32 = 0x8000;
const SHARE_IS_DISK: u8 = 1;
const AES_128_GCM: u16 = 2;
const DIALECT_210: u16 = 0x210;
const DIALECT_311: u16 = 0x311;

/// A session with a share.
pub(super) struct Session {
    pub(super) stream: TcpStream,
    pub(super) framer: Framer,
    /// Number of the next message.
    pub(super) next: u64,
    pub(super) credits: usize,
    pub(super) max_read: u32,
    pub(super) max_list: u32,
    /// What the server calls itself.
    pub(super) server: [u8; 16],
}

/// A connection on which one message waits for the next.
struct Talk {
    stream: TcpStream,
    framer: Framer,
    next: u64,
    credits: usize,
}

impl Talk {
    /// Sends a request and receives the answer; both as they were on the wire.
    async fn exchange(&mut self, command: u16, body: Vec<u8>) -> Result<(Bytes, Reply), Failure> {
        let frame = self.framer.frame(&[Request::new(command, body)], self.next, CREDITS);
        self.next += 1;
        let mut out = BytesMut::with_capacity(4 + frame.len());
        out.put_u32(frame.len() as u32);
        out.put_slice(&frame);
        self.stream.write_all(&out).await.map_err(Failure::of_io)?;
        loop {
            let mut head = [0; 4];
            self.stream.read_exact(&mut head).await.map_err(Failure::of_io)?;
            let len = u32::from_be_bytes(head) as usize;
            if !(HEAD..=MAX_MESSAGE).contains(&len) {
                return Err(Failure::garbled("the server does not speak SMB 2 or 3"));
            }
            let mut message = vec![0; len];
            self.stream.read_exact(&mut message).await.map_err(Failure::of_io)?;
            let reply = self.framer.open(message)?;
            self.credits += usize::from(reply.credits());
            if !reply.is_interim() {
                self.credits = self.credits.saturating_sub(1);
                return Ok((frame.into(), reply));
            }
        }
    }
}

/// Connects, logs in and connects to the share.
///
/// Cancel safe: what was begun is dropped.
pub(super) async fn login(config: &SmbConfig, names: &wire::Names) -> Result<Session, Failure> {
    let stream = wire::connect((&config.host, config.port), names, &*config.clock, false).await?;
    let framer = Framer { session: 0, tree: 0, signer: None, sealer: None };
    let mut talk = Talk { stream, framer, next: 0, credits: 1 };
    let mut transcript = Transcript::new();

    let (sent, came) = talk.exchange(NEGOTIATE, negotiate()?).await?;
    transcript.add(&sent);
    transcript.add(came.message());
    let came = came.good()?;
    let dialect = came.u16(HEAD + 4)?;
    let server = <[u8; 16]>::try_from(&came.part(HEAD + 8, 16)?[..]).unwrap_or_default();
    let large = came.u32(HEAD + 24)? & CAP_LARGE_MTU != 0;
    let (max_list, max_read) = (came.u32(HEAD + 28)?, came.u32(HEAD + 32)?);
    if dialect < DIALECT_210 {
        return Err(Failure::lost(
            OriginErrorKind::Unsupported,
            format!("the server speaks SMB {dialect:#x} at best; 2.1 or newer is needed"),
        ));
    }
    let can_seal = dialect == DIALECT_311 && chosen_cipher(&came)? == Some(AES_128_GCM);

    let (flags, sealer) = authenticate(config, &mut talk, dialect, transcript).await?;
    let session_sealed = flags & SESSION_ENCRYPTED != 0;
    if session_sealed {
        talk.framer.sealer = Some(need_cipher(sealer, can_seal)?);
        let came = talk.exchange(TREE_CONNECT, tree_connect(config)?).await?.1;
        connected(config, &mut talk, came)?;
    } else {
        let came = talk.exchange(TREE_CONNECT, tree_connect(config)?).await?.1;
        // The share alone may want it.
        if connected(config, &mut talk, came)? & SHARE_ENCRYPTED != 0 {
            talk.framer.sealer = Some(need_cipher(sealer, can_seal)?);
        }
    }
    let limit = |len: u32| if large { len } else { len.min(message::CREDIT) };
    let (max_read, max_list) = (limit(max_read), limit(max_list));
    let Talk { stream, framer, next, credits } = talk;
    if credits < MIN_CREDITS {
        // A read, with opening and closing, would wait for ever.
        return Err(Failure::lost(OriginErrorKind::Unavailable, "the server lets us ask too little at once"));
    }
    Ok(Session { stream, framer, next, credits, max_read, max_list, server })
}

fn need_cipher(sealer: Option<Sealer>, agreed: bool) -> Result<Sealer, Failure> {
    sealer.filter(|_| agreed).ok_or_else(|| {
        Failure::lost(
            OriginErrorKind::Unsupported,
            "the server wants encryption, but not by SMB 3.1.1 with AES-128-GCM, which is what is spoken here",
        )
    })
}

/// Takes the answer to connecting to the share; returns the share's flags.
fn connected(config: &SmbConfig, talk: &mut Talk, came: Reply) -> Result<u32, Failure> {
    // A share that is not there is a server that is not in order, not an empty library.
    let came = came.good()?;
    if came.part(HEAD + 2, 1)?[..] != [SHARE_IS_DISK] {
        let why = format!("{} is not a share of files", config.share);
        return Err(Failure::lost(OriginErrorKind::Invalid, why));
    }
    talk.framer.tree = came.tree();
    came.u32(HEAD + 4)
}

/// Logs in; afterwards messages are signed. Returns what kind of session it is, and what encrypts in it.
async fn authenticate(
    config: &SmbConfig,
    talk: &mut Talk,
    dialect: u16,
    mut transcript: Transcript,
) -> Result<(u16, Option<Sealer>), Failure> {
    let mut random = Random { challenge: [0; 8], key: [0; 16] };
    fill(&mut random.challenge)?;
    fill(&mut random.key)?;
    let begun = ntlm::negotiate();
    let (sent, came) = talk.exchange(SESSION_SETUP, session_setup(&begun)).await?;
    transcript.add(&sent);
    transcript.add(came.message());
    if came.status() != STATUS_MORE_PROCESSING {
        return Err(match came.good() {
            Ok(_) => Failure::garbled("the server lets us in before it knows who we are"),
            Err(failure) => failure,
        });
    }
    talk.framer.session = came.session();
    let token = came.part(usize::from(came.u16(HEAD + 4)?), usize::from(came.u16(HEAD + 6)?))?;
    let challenge = ntlm::unwrap(&token)
        .ok_or_else(|| Failure::lost(OriginErrorKind::Unsupported, "the server lets nobody in by NTLM"))?;
    let password = config.password.as_ref().map_or("", |password| password.expose());
    let user = if config.user.is_empty() { "guest" } else { &config.user };
    let account = Account { user, domain: &config.domain, password };
    let now = message::windows_time(config.clock.unix());
    let answered = ntlm::authenticate(&account, &begun, challenge, now, &random)
        .ok_or_else(|| Failure::garbled("the server's challenge cannot be read"))?;

    let body = session_setup(&answered.message);
    let (sent, came) = talk.exchange(SESSION_SETUP, body).await?;
    transcript.add(&sent);
    let came = came.good()?;
    let flags = came.u16(HEAD + 2)?;
    if flags & (SESSION_GUEST | SESSION_ANONYMOUS) != 0 {
        // A guest may see other files, or none: that must not be taken for what the user's account sees.
        if !config.user.is_empty() {
            let who = &config.user;
            let why =
                format!("the server does not know {who}, or the password, and would let us in as a guest");
            return Err(Failure::lost(OriginErrorKind::Denied, why));
        }
        // A guest has no keys.
        return Ok((flags & !SESSION_ENCRYPTED, None));
    }
    let scheme = match dialect {
        DIALECT_210 => Scheme::Plain,
        DIALECT_311 => Scheme::Bound(transcript),
        _ => Scheme::Labels,
    };
    let signer = Signer::new(&answered.session_key, &scheme);
    // Only who knows the password too can have made this signature. Version 2.1 does not demand one.
    if (came.is_signed() || dialect != DIALECT_210) && !signer.verify(came.message()) {
        return Err(Failure::lost(OriginErrorKind::Denied, "the server's signature is wrong"));
    }
    talk.framer.signer = Some(signer);
    Ok((flags, Sealer::new(&answered.session_key, &scheme, talk.framer.session)))
}

fn fill(bytes: &mut [u8]) -> Result<(), Failure> {
    getrandom::fill(bytes).map_err(|e| Failure::new(OriginErrorKind::Unavailable, e))
}

/// Writes the request that agrees on a version.
fn negotiate() -> Result<Vec<u8>, Failure> {
    let mut random = [0; 48];
    fill(&mut random)?;
    let (client, salt) = random.split_at(16);
    let dialects = [DIALECT_210, 0x300, 0x302, DIALECT_311];
    let mut out = Vec::new();
    out.extend(36u16.to_le_bytes());
    out.extend((dialects.len() as u16).to_le_bytes());
    out.extend(SIGNING_ENABLED.to_le_bytes());
    out.extend([0; 2]);
    out.extend((CAP_LARGE_MTU | CAP_ENCRYPTION).to_le_bytes());
    out.extend(client);
    // Where the contexts are: behind head, body and versions, at a multiple of eight.
    let at = (HEAD + 36 + 2 * dialects.len()).next_multiple_of(8);
    out.extend((at as u32).to_le_bytes());
    out.extend(2u16.to_le_bytes());
    out.extend([0; 2]);
    out.extend(dialects.iter().flat_map(|dialect| dialect.to_le_bytes()));
    out.resize(at - HEAD, 0);
    // Integrity: one hash, SHA-512, with a salt.
    out.extend(1u16.to_le_bytes());
    out.extend(38u16.to_le_bytes());
    out.extend([0; 4]);
    out.extend([1, 0, 32, 0, 1, 0]);
    out.extend(salt);
    out.resize(out.len().next_multiple_of(8), 0);
    // Encryption: one cipher.
    out.extend(2u16.to_le_bytes());
    out.extend(4u16.to_le_bytes());
    out.extend([0; 4]);
    out.extend(1u16.to_le_bytes());
    out.extend(AES_128_GCM.to_le_bytes());
    Ok(out)
}

/// Finds the cipher that the server chose.
fn chosen_cipher(came: &Reply) -> Result<Option<u16>, Failure> {
    let mut at = came.u32(HEAD + 60)? as usize;
    for _ in 0..came.u16(HEAD + 6)? {
        let (kind, len) = (came.u16(at)?, usize::from(came.u16(at + 2)?));
        if kind == 2 && len >= 4 {
            return Ok(Some(came.u16(at + 10)?));
        }
        at += (8 + len).next_multiple_of(8);
    }
    Ok(None)
}

fn session_setup(token: &[u8]) -> Vec<u8> {
    let mut out = 25u16.to_le_bytes().to_vec();
    out.extend([0, SIGNING_ENABLED as u8]);
    out.extend([0; 8]);
    out.extend(88u16.to_le_bytes());
    out.extend((token.len() as u16).to_le_bytes());
    out.extend([0; 8]);
    out.extend(token);
    out
}

fn tree_connect(config: &SmbConfig) -> Result<Vec<u8>, Failure> {
    let path = utf16::encode(&format!("\\\\{}\\{}", config.host, config.share));
    let len = u16::try_from(path.len())
        .map_err(|_| Failure::new(OriginErrorKind::Invalid, "the name of the share is too long"))?;
    let mut out = 9u16.to_le_bytes().to_vec();
    out.extend([0; 2]);
    out.extend(72u16.to_le_bytes());
    out.extend(len.to_le_bytes());
    out.extend(path);
    Ok(out)
}
