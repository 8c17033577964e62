//! What keeps a session's messages from being changed or read.

use std::sync::atomic::{AtomicU64, Ordering};

use aes_gcm::aead::AeadInOut;
use aes_gcm::{Aes128Gcm, Nonce, Tag};
use cmac::Cmac;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256, Sha512};

/// Length of the head of an encrypted message.
pub(super) const SEAL_HEAD: usize = 52;
/// How an encrypted message begins.
pub(super) const SEAL_MARK: [u8; 4] = [0xfd, b'S', b'M', b'B'];
/// Where a message's signature is.
pub(super) const SIGNATURE: std::ops::Range<usize> = 48..64;

/// A running hash of the messages that begin a session, which makes its keys: who changed one of them has others.
#[derive(Clone, Copy)]
pub(super) struct Transcript([u8; 64]);

impl Transcript {
    pub(super) fn new() -> Self {
        Self([0; 64])
    }

    pub(super) fn add(&mut self, message: &[u8]) {
        let mut hash = Sha512::new();
        hash.update(self.0);
        hash.update(message);
        self.0 = hash.finalize().into();
    }
}

/// The ways in which versions of the protocol make keys.
#[derive(Clone, Copy)]
pub(super) enum Scheme {
    /// 2.x: the session's key itself.
    Plain,
    /// 3.0: by fixed labels.
    Labels,
    /// 3.1.1: by labels and the transcript.
    Bound(Transcript),
}

/// Signs messages.
pub(super) enum Signer {
    HmacSha256([u8; 16]),
    AesCmac([u8; 16]),
}

impl Signer {
    pub(super) fn new(key: &[u8; 16], scheme: &Scheme) -> Self {
        match scheme {
            Scheme::Plain => Self::HmacSha256(*key),
            Scheme::Labels => Self::AesCmac(derive(key, b"SMB2AESCMAC\0", b"SmbSign\0")),
            Scheme::Bound(transcript) => Self::AesCmac(derive(key, b"SMBSigningKey\0", &transcript.0)),
        }
    }

    /// Returns the signature of a message, whatever is in the place of one.
    pub(super) fn sign(&self, message: &[u8]) -> [u8; 16] {
        let parts = [&message[..SIGNATURE.start], &[0; 16], &message[SIGNATURE.end..]];
        match self {
            Self::HmacSha256(key) => {
                let whole = hmac_sha256(key, &parts);
                std::array::from_fn(|n| whole[n])
            }
            Self::AesCmac(key) => {
                let Ok(mut mac) = Cmac::<aes::Aes128>::new_from_slice(key) else { return [0; 16] };
                for part in parts {
                    mac.update(part);
                }
                mac.finalize().into_bytes().into()
            }
        }
    }

    /// Tells whether a message bears the right signature.
    pub(super) fn verify(&self, message: &[u8]) -> bool {
        // The time that comparing takes tells nobody anything: the right signature is not reused.
        message.get(SIGNATURE).is_some_and(|signature| signature == self.sign(message))
    }
}

/// Encrypts what is sent and decrypts what comes.
pub(super) struct Sealer {
    outgoing: Aes128Gcm,
    incoming: Aes128Gcm,
    session: u64,
    /// A nonce is used once for a key.
    used: AtomicU64,
}

impl Sealer {
    /// Makes the keys for a session of version 3.1.1; `None` for others.
    pub(super) fn new(key: &[u8; 16], scheme: &Scheme, session: u64) -> Option<Self> {
        let Scheme::Bound(transcript) = scheme else { return None };
        let cipher = |label: &[u8]| Aes128Gcm::new_from_slice(&derive(key, label, &transcript.0)).ok();
        Some(Self {
            outgoing: cipher(b"SMBC2SCipherKey\0")?,
            incoming: cipher(b"SMBS2CCipherKey\0")?,
            session,
            used: AtomicU64::new(0),
        })
    }

    /// Encrypts a message; `None` where the cipher fails, which it does for messages of gigabytes only.
    pub(super) fn seal(&self, message: &[u8]) -> Option<Vec<u8>> {
        let mut out = vec![0; SEAL_HEAD];
        out[..4].copy_from_slice(&SEAL_MARK);
        let nonce = self.used.fetch_add(1, Ordering::Relaxed);
        out[20..28].copy_from_slice(&nonce.to_le_bytes());
        out[36..40].copy_from_slice(&(message.len() as u32).to_le_bytes());
        out[42] = 1;
        out[44..52].copy_from_slice(&self.session.to_le_bytes());
        out.extend_from_slice(message);
        let (head, body) = out.split_at_mut(SEAL_HEAD);
        let nonce = Nonce::try_from(&head[20..32]).ok()?;
        let tag = self.outgoing.encrypt_inout_detached(&nonce, &head[20..], body.into()).ok()?;
        head[4..20].copy_from_slice(&tag);
        Some(out)
    }

    /// Decrypts a message in place and returns where it is; `None` when it was changed on the way.
    pub(super) fn open<'m>(&self, sealed: &'m mut [u8]) -> Option<&'m mut [u8]> {
        if sealed.len() < SEAL_HEAD {
            return None;
        }
        let (head, body) = sealed.split_at_mut(SEAL_HEAD);
        let nonce = Nonce::try_from(&head[20..32]).ok()?;
        let tag = Tag::try_from(&head[4..20]).ok()?;
        self.incoming.decrypt_inout_detached(&nonce, &head[20..], (&mut *body).into(), &tag).ok()?;
        Some(body)
    }
}

/// Makes a key of a key (SP 800-108, counter mode, 128 bits).
fn derive(key: &[u8; 16], label: &[u8], context: &[u8]) -> [u8; 16] {
    let whole = hmac_sha256(key, &[&1u32.to_be_bytes(), label, &[0], context, &128u32.to_be_bytes()]);
    std::array::from_fn(|n| whole[n])
}

fn hmac_sha256(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    // A key of any length is taken; these are of 16 bytes.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return [0; 32] };
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signature_covers_all_but_itself() {
        for signer in [Signer::HmacSha256([1; 16]), Signer::AesCmac([1; 16])] {
            let mut message = vec![7; 100];
            let signature = signer.sign(&message);
            message[SIGNATURE].copy_from_slice(&signature);
            assert!(signer.verify(&message));
            for at in 0..message.len() {
                message[at] ^= 1;
                assert!(!signer.verify(&message), "{at}");
                message[at] ^= 1;
            }
            assert!(!signer.verify(&message[..60]));
        }
    }

    #[test]
    fn sealed_message_is_opened_only_unchanged() {
        let scheme = Scheme::Bound(Transcript::new());
        let client = Sealer::new(&[3; 16], &scheme, 9).unwrap();
        // The server's keys are ours the other way round.
        let Sealer { outgoing, incoming, .. } = Sealer::new(&[3; 16], &scheme, 9).unwrap();
        let server = Sealer { outgoing: incoming, incoming: outgoing, session: 9, used: AtomicU64::new(0) };
        let sealed = client.seal(b"what is said").unwrap();
        assert_ne!(client.seal(b"what is said").unwrap(), sealed, "a nonce was used twice");
        assert!(client.open(&mut sealed.clone()).is_none(), "both directions have one key");
        assert_eq!(server.open(&mut sealed.clone()).unwrap(), b"what is said");
        for at in 4..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(server.open(&mut changed).is_none(), "{at}");
        }
        assert!(Sealer::new(&[3; 16], &Scheme::Labels, 9).is_none());
    }
}
