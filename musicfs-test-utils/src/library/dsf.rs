//! Tags in DSF files: an ID3v2 tag at the end, found by a pointer in the header.

use lofty::config::WriteOptions;
use lofty::tag::{Tag, TagExt};

use super::tagging::id3v2;

/// Offset of the total file size in the `DSD ` chunk, little-endian, 8 bytes.
const SIZE_AT: usize = 12;
/// Offset of the pointer to the ID3v2 tag, little-endian, 8 bytes; 0 for none.
const POINTER_AT: usize = 20;

/// Returns `file`, which has no tag, with `tag` at its end.
pub(super) fn tagged(file: &[u8], tag: Tag) -> Result<Vec<u8>, String> {
    let mut out = file.to_vec();
    let pointer = out.len() as u64;
    let options = WriteOptions::new().preferred_padding(0);
    id3v2(tag).dump_to(&mut out, options).map_err(|error| error.to_string())?;
    let size = out.len() as u64;
    out[SIZE_AT..SIZE_AT + 8].copy_from_slice(&size.to_le_bytes());
    out[POINTER_AT..POINTER_AT + 8].copy_from_slice(&pointer.to_le_bytes());
    Ok(out)
}

#[cfg(test)]
mod tests {
    use crate::library::{Sample, Track};

    #[test]
    fn header_points_at_the_tag_and_tells_the_size() {
        let bytes = Track::new(Sample::Dsf).title("T").to_bytes().unwrap();
        let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) as usize;
        assert_eq!(number(super::SIZE_AT), bytes.len());
        assert_eq!(&bytes[number(super::POINTER_AT)..][..3], b"ID3");
    }
}
