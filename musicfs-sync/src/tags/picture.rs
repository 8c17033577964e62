//! What the tag formats have in common about pictures.

use musicfs_core::{PictureKind, PictureRef, PictureStorage};

use super::text;

/// Most pictures of one file that are remembered.
const MAX_PICTURES: usize = 32;

/// Remembers a picture, unless there are too many or it is empty.
pub(super) fn push(pictures: &mut Vec<PictureRef>, picture: PictureRef) {
    if picture.len > 0 && pictures.len() < MAX_PICTURES {
        pictures.push(picture);
    }
}

/// Returns what ID3's and FLAC's number of a kind of picture means.
pub(super) fn kind_of_number(number: u32) -> PictureKind {
    match number {
        3 => PictureKind::Front,
        4 => PictureKind::Back,
        _ => PictureKind::Other,
    }
}

/// Returns the MIME type of ID3v2.2's three letters.
pub(super) fn mime_of_format(format: &[u8]) -> String {
    match format.to_ascii_uppercase().as_slice() {
        b"JPG" => "image/jpeg".to_owned(),
        b"PNG" => "image/png".to_owned(),
        other => text::latin1(other),
    }
}

/// Returns the MIME type of a picture by its first bytes; empty when they tell nothing.
pub(super) fn mime_of_content(head: &[u8]) -> String {
    let mime = match head {
        [0xff, 0xd8, 0xff, ..] => "image/jpeg",
        [0x89, b'P', b'N', b'G', ..] => "image/png",
        [b'G', b'I', b'F', b'8', ..] => "image/gif",
        [b'B', b'M', ..] => "image/bmp",
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => "image/webp",
        _ => "",
    };
    mime.to_owned()
}

/// Reads a FLAC picture block's head; `head` may end before the picture does. Returns what it shows, its MIME
/// type, where in the block the picture begins, and its length.
pub(super) fn flac_block(head: &[u8]) -> Option<(PictureKind, String, u64, u64)> {
    let number =
        |at: usize| -> Option<u32> { Some(u32::from_be_bytes(head.get(at..)?.get(..4)?.try_into().ok()?)) };
    let kind = kind_of_number(number(0)?);
    let mime_len = number(4)? as usize;
    let mime = text::latin1(head.get(8..)?.get(..mime_len)?);
    let description = 8 + mime_len;
    // Description, then width, height, depth and colours.
    let len_at = description + 4 + number(description)? as usize + 16;
    Some((kind, mime, len_at as u64 + 4, u64::from(number(len_at)?)))
}

/// Reads the picture of a comment `METADATA_BLOCK_PICTURE`, whose base64 text is at `offset` and starts with
/// `head`.
pub(super) fn of_comment(head: &[u8], offset: u64, len: u64) -> PictureRef {
    let block = base64_head(head);
    let number = block.get(..4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_be_bytes);
    let mime_len = block.get(4..8).and_then(|b| b.try_into().ok()).map_or(0, u32::from_be_bytes) as usize;
    let mime = block.get(8..).and_then(|b| b.get(..mime_len)).map(text::latin1).unwrap_or_default();
    PictureRef { kind: kind_of_number(number), mime, offset, len, storage: PictureStorage::Base64 }
}

/// Decodes as much of base64 text as is well formed.
fn base64_head(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    for group in text.chunks_exact(4) {
        let mut bits = 0;
        for byte in group {
            let six = match byte {
                b'A'..=b'Z' => byte - b'A',
                b'a'..=b'z' => byte - b'a' + 26,
                b'0'..=b'9' => byte - b'0' + 52,
                b'+' => 62,
                b'/' => 63,
                _ => return out,
            };
            bits = bits << 6 | u32::from(six);
        }
        out.extend_from_slice(&bits.to_be_bytes()[1..]);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flac_block_tells_where_the_picture_is() {
        let mut block = Vec::new();
        block.extend(3u32.to_be_bytes());
        block.extend(9u32.to_be_bytes());
        block.extend(b"image/png");
        block.extend(2u32.to_be_bytes());
        block.extend(b"ab");
        block.extend([0; 16]);
        block.extend(7u32.to_be_bytes());
        assert_eq!(flac_block(&block), Some((PictureKind::Front, "image/png".into(), 43, 7)));
        for cut in 0..block.len() {
            assert_eq!(flac_block(&block[..cut]), None);
        }
        assert_eq!(flac_block(&[0xff; 40]), None);
    }

    #[test]
    fn base64_is_decoded_up_to_what_is_not() {
        assert_eq!(base64_head(b"TWFuTWFu"), b"ManMan");
        assert_eq!(base64_head(b"TWFuTW!!"), b"Man");
        assert_eq!(base64_head(b"TW"), b"");
    }
}
