//! NTLM version 2 (MS-NLMP), the client's half.
//!
//! The server's challenge is answered by a proof of the password, which itself is never sent; both sides are left
//! with a key for the session. A check over all three messages shows the server that nobody changed them.
//!
//! The messages are sent as they are, without the wrapping of SPNEGO, which has nothing to add where there is one way
//! to log in. Servers take both, as the kernel's own client does the same.

use hmac::{Hmac, KeyInit, Mac};
use md4::Md4;
use md5::{Digest, Md5};

use super::utf16;

const SIGNATURE: &[u8; 8] = b"NTLMSSP\0";
const UNICODE: u32 = 0x1;
const REQUEST_TARGET: u32 = 0x4;
const SIGN: u32 = 0x10;
const NTLM: u32 = 0x200;
const ALWAYS_SIGN: u32 = 0x8000;
const EXTENDED_SECURITY: u32 = 0x8_0000;
const TARGET_INFO: u32 = 0x80_0000;
const VERSION: u32 = 0x200_0000;
const BITS_128: u32 = 0x2000_0000;
const KEY_EXCHANGE: u32 = 0x4000_0000;
const FLAGS: u32 = UNICODE
    | REQUEST_TARGET
    | SIGN
    | NTLM
    | ALWAYS_SIGN
    | EXTENDED_SECURITY
    | TARGET_INFO
    | VERSION
    | BITS_128
    | KEY_EXCHANGE;
/// Windows 10, NTLM revision 15: what servers expect in this place.
const OUR_VERSION: [u8; 8] = [10, 0, 0, 0, 0, 0, 0, 15];

const AV_END: u16 = 0;
const AV_FLAGS: u16 = 6;
const AV_TIME: u16 = 7;
/// Says that the check over the messages is there.
const AV_HAS_CHECK: u32 = 2;

/// Length of the fixed part of the last message.
const AUTHENTICATE_HEAD: usize = 88;
/// Where the check is in it.
const CHECK: std::ops::Range<usize> = 72..88;

/// Who logs in.
pub(super) struct Account<'a> {
    pub(super) user: &'a str,
    pub(super) domain: &'a str,
    pub(super) password: &'a str,
}

/// What must not be the same twice.
pub(super) struct Random {
    pub(super) challenge: [u8; 8],
    pub(super) key: [u8; 16],
}

/// The answer to a challenge.
pub(super) struct Answered {
    /// The message for the server.
    pub(super) message: Vec<u8>,
    /// The key that both sides now have.
    pub(super) session_key: [u8; 16],
}

/// Writes the message that begins.
pub(super) fn negotiate() -> Vec<u8> {
    let mut out = SIGNATURE.to_vec();
    out.extend(1u32.to_le_bytes());
    out.extend(FLAGS.to_le_bytes());
    // Neither domain nor workstation is told.
    out.extend([0; 16]);
    out.extend(OUR_VERSION);
    out
}

/// Answers the server's challenge. `now` (in the units of Windows) stands in where the server does not tell its
/// time. `None` when the challenge cannot be read.
pub(super) fn authenticate(
    account: &Account<'_>,
    begun: &[u8],
    challenge: &[u8],
    now: u64,
    random: &Random,
) -> Option<Answered> {
    if !challenge.starts_with(SIGNATURE) || challenge.get(8..12)? != 2u32.to_le_bytes() {
        return None;
    }
    let flags = u32::from_le_bytes(challenge.get(20..24)?.try_into().ok()?) & FLAGS;
    let server: [u8; 8] = challenge.get(24..32)?.try_into().ok()?;
    let (info, time) = target_info(field(challenge, 40)?)?;

    let owner = owner_key(account);
    let mut temp = vec![1, 1, 0, 0, 0, 0, 0, 0];
    temp.extend(time.unwrap_or(now).to_le_bytes());
    temp.extend(random.challenge);
    temp.extend([0; 4]);
    temp.extend(info);
    temp.extend([0; 4]);
    let proof = hmac_md5(&owner, &[&server, &temp]);
    let base_key = hmac_md5(&owner, &[&proof]);
    let nt = [&proof[..], &temp].concat();
    let lm = match time {
        Some(_) => vec![0; 24],
        None => [&hmac_md5(&owner, &[&server, &random.challenge])[..], &random.challenge].concat(),
    };
    let (session_key, sealed_key) = if flags & KEY_EXCHANGE != 0 {
        (random.key, rc4(&base_key, &random.key))
    } else {
        (base_key, Vec::new())
    };

    let domain = utf16::encode(account.domain);
    let user = utf16::encode(account.user);
    let mut head = SIGNATURE.to_vec();
    head.extend(3u32.to_le_bytes());
    let mut payload: Vec<u8> = Vec::new();
    for part in [&lm, &nt, &domain, &user, &Vec::new(), &sealed_key] {
        let len = u16::try_from(part.len()).ok()?;
        head.extend(len.to_le_bytes());
        head.extend(len.to_le_bytes());
        head.extend(((AUTHENTICATE_HEAD + payload.len()) as u32).to_le_bytes());
        payload.extend(part);
    }
    head.extend(flags.to_le_bytes());
    head.extend(OUR_VERSION);
    head.extend([0; 16]);
    let mut message = [head, payload].concat();
    let check = hmac_md5(&session_key, &[begun, challenge, &message]);
    message[CHECK].copy_from_slice(&check);
    Some(Answered { message, session_key })
}

/// Returns the key that stands for the account: of the password, the user and the domain.
fn owner_key(account: &Account<'_>) -> [u8; 16] {
    let password = Md4::digest(utf16::encode(account.password));
    let whose = utf16::encode(&(account.user.to_uppercase() + account.domain));
    hmac_md5(&password, &[&whose])
}

/// Copies what the server says of itself, adds that there will be a check, and finds the server's time.
fn target_info(mut pairs: &[u8]) -> Option<(Vec<u8>, Option<u64>)> {
    let mut out = Vec::new();
    let mut time = None;
    loop {
        let id = u16::from_le_bytes(pairs.get(..2)?.try_into().ok()?);
        let len = usize::from(u16::from_le_bytes(pairs.get(2..4)?.try_into().ok()?));
        let value = pairs.get(4..4 + len)?;
        match id {
            AV_END => break,
            AV_TIME => time = Some(u64::from_le_bytes(value.try_into().ok()?)),
            _ => {}
        }
        if id != AV_FLAGS {
            out.extend(&pairs[..4 + len]);
        }
        pairs = &pairs[4 + len..];
    }
    out.extend(AV_FLAGS.to_le_bytes());
    out.extend(4u16.to_le_bytes());
    out.extend(AV_HAS_CHECK.to_le_bytes());
    out.extend([0; 4]);
    Some((out, time))
}

/// Returns the part of a message that a length and an offset at `at` point to.
fn field(message: &[u8], at: usize) -> Option<&[u8]> {
    let len = usize::from(u16::from_le_bytes(message.get(at..at + 2)?.try_into().ok()?));
    let from = u32::from_le_bytes(message.get(at + 4..at + 8)?.try_into().ok()?) as usize;
    message.get(from..from.checked_add(len)?)
}

fn hmac_md5(key: &[u8], parts: &[&[u8]]) -> [u8; 16] {
    // A key of any length is taken; this one is of 16 bytes.
    let Ok(mut mac) = Hmac::<Md5>::new_from_slice(key) else { return [0; 16] };
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

/// Encrypts with RC4, which MS-NLMP wraps the session's key with.
fn rc4(key: &[u8; 16], data: &[u8]) -> Vec<u8> {
    let mut state: [u8; 256] = std::array::from_fn(|n| n as u8);
    let mut j = 0u8;
    for i in 0..256 {
        j = j.wrapping_add(state[i]).wrapping_add(key[i % key.len()]);
        state.swap(i, usize::from(j));
    }
    let (mut i, mut j) = (0u8, 0u8);
    let encrypt = |byte: &u8| {
        i = i.wrapping_add(1);
        j = j.wrapping_add(state[usize::from(i)]);
        state.swap(usize::from(i), usize::from(j));
        byte ^ state[usize::from(state[usize::from(i)].wrapping_add(state[usize::from(j)]))]
    };
    data.iter().map(encrypt).collect()
}

/// Finds the server's message, whether or not it is wrapped: it knows its own lengths.
pub(super) fn unwrap(token: &[u8]) -> Option<&[u8]> {
    let at = token.windows(SIGNATURE.len()).position(|window| window == SIGNATURE)?;
    Some(&token[at..])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of MS-NLMP 4.2.4.
    const ACCOUNT: Account<'static> = Account { user: "User", domain: "Domain", password: "Password" };

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
        digits
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect()
    }

    #[test]
    fn keys_are_those_of_the_specification_s_example() {
        let owner = owner_key(&ACCOUNT);
        assert_eq!(owner.to_vec(), hex("0c868a403bfd7a93a3001ef22ef02e3f"));
        let server = hex("0123456789abcdef");
        let info = hex("02000c0044006f006d00610069006e0001000c0053006500720076006500720000000000");
        let mut temp = hex("0101000000000000 0000000000000000 aaaaaaaaaaaaaaaa 00000000");
        temp.extend(info);
        temp.extend([0; 4]);
        let proof = hmac_md5(&owner, &[&server, &temp]);
        assert_eq!(proof.to_vec(), hex("68cd0ab851e51c96aabc927bebef6a1c"));
        let base = hmac_md5(&owner, &[&proof]);
        assert_eq!(base.to_vec(), hex("8de40ccadbc14a82f15cb0ad0de95ca3"));
        assert_eq!(rc4(&base, &[0x55; 16]), hex("c5dad2544fc9799094ce1ce90bc9d03e"));
    }

    #[test]
    fn challenge_cut_anywhere_is_refused() {
        let mut challenge = SIGNATURE.to_vec();
        challenge.extend(2u32.to_le_bytes());
        challenge.extend([0; 8]);
        challenge.extend(FLAGS.to_le_bytes());
        challenge.extend([7; 8]);
        challenge.extend([0; 8]);
        challenge.extend([16, 0, 16, 0, 48, 0, 0, 0]);
        challenge.extend([7, 0, 8, 0, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0]);
        let random = Random { challenge: [1; 8], key: [2; 16] };
        let answer = |bytes: &[u8]| authenticate(&ACCOUNT, b"begun", bytes, 0, &random);
        let answered = answer(&challenge).unwrap();
        assert_eq!(answered.session_key, [2; 16]);
        assert_ne!(answered.message[CHECK], [0; 16]);
        for cut in 0..challenge.len() {
            assert!(answer(&challenge[..cut]).is_none(), "{cut}");
        }
    }

    #[test]
    fn message_is_found_in_a_wrapping() {
        let message = [&SIGNATURE[..], &[5; 300]].concat();
        assert_eq!(unwrap(&message), Some(&message[..]));
        assert_eq!(unwrap(&[&[0xa1, 0x82, 1, 2], &message[..]].concat()), Some(&message[..]));
        assert_eq!(unwrap(b"nothing"), None);
    }
}
