//! Names between bytes and UTF-16.
//!
//! A Windows disk holds names that are any 16-bit units, an origin's path any bytes. Text goes over as text; a unit
//! that is half a pair becomes the three bytes that UTF-8 would have for it (as in WTF-8), and back.

/// Writes text as little-endian UTF-16.
pub(super) fn encode(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

/// Writes a name, `None` where it is no name that UTF-16 has.
pub(super) fn encode_name(name: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(name.len() * 2);
    let mut rest = name;
    while !rest.is_empty() {
        match std::str::from_utf8(rest) {
            Ok(text) => {
                out.extend(encode(text));
                break;
            }
            Err(error) => {
                let (good, bad) = rest.split_at(error.valid_up_to());
                out.extend(encode(std::str::from_utf8(good).ok()?));
                let [0xed, second @ 0xa0..=0xbf, third @ 0x80..=0xbf, ..] = bad else { return None };
                let unit = 0xd000 | u16::from(second & 0x3f) << 6 | u16::from(third & 0x3f);
                out.extend(unit.to_le_bytes());
                rest = &bad[3..];
            }
        }
    }
    Some(out)
}

/// Reads a name.
pub(super) fn decode_name(bytes: &[u8]) -> Vec<u8> {
    let units = bytes.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
    let mut out = Vec::with_capacity(bytes.len());
    for unit in char::decode_utf16(units) {
        match unit {
            Ok(char) => out.extend(char.encode_utf8(&mut [0; 4]).as_bytes()),
            Err(half) => {
                let unit = half.unpaired_surrogate();
                out.extend([0xed, 0x80 | (unit >> 6 & 0x3f) as u8, 0x80 | (unit & 0x3f) as u8]);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_over_and_come_back() {
        for units in [&[0x61u16, 0xe9, 0x65e5][..], &[0xd83c, 0xdfb5], &[0x61, 0xd83c, 0x62], &[0xdfb5]] {
            let wire: Vec<u8> = units.iter().flat_map(|unit| unit.to_le_bytes()).collect();
            assert_eq!(encode_name(&decode_name(&wire)), Some(wire));
        }
    }

    #[test]
    fn bytes_that_are_no_name_there_are_refused() {
        assert_eq!(encode_name(b"caf\xe9"), None);
        assert_eq!(encode_name(b"\xed\xa0"), None);
    }
}
