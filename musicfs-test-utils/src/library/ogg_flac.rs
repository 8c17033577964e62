//! Tags in Ogg FLAC files, which lofty does not write: the header packets after the first are replaced and all
//! pages that follow are numbered anew.

use lofty::ogg::tag::VorbisComments;
use lofty::picture::PictureInformation;
use lofty::tag::Tag;

use super::flac::{VENDOR, comment_block, metadata_block};

/// FLAC metadata block type of a picture.
const PICTURE: u8 = 6;
/// Fixed part of a page's header; the segment table follows.
const HEADER: usize = 27;
/// Most bytes of one segment.
const SEGMENT: usize = 255;

/// Returns `file` with `tag` for its comments.
pub(super) fn tagged(file: &[u8], tag: &Tag) -> Result<Vec<u8>, String> {
    let pages = split(file).ok_or("the sample is not an Ogg file")?;
    let first = pages.first().ok_or("the sample is empty")?;
    let serial = &first[14..18];

    let comments = VorbisComments::from(tag.clone());
    let pictures: Vec<Vec<u8>> =
        tag.pictures().iter().map(|p| p.as_flac_bytes(PictureInformation::default(), false)).collect();
    let mut packets = vec![comment_block(VENDOR, comments.items(), pictures.is_empty())];
    for (n, picture) in pictures.iter().enumerate() {
        packets.push(metadata_block(PICTURE, picture, n + 1 == pictures.len()));
    }

    let mut out = Vec::with_capacity(file.len() + 4096);
    let mut sequence = 1;
    let mut ident = first.to_vec();
    // How many header packets follow the first one.
    ident[HEADER + 1 + 7..HEADER + 1 + 9].copy_from_slice(&(packets.len() as u16).to_be_bytes());
    checksum(&mut ident);
    out.extend_from_slice(&ident);
    for packet in &packets {
        for page in paginate(packet, serial, &mut sequence) {
            out.extend_from_slice(&page);
        }
    }
    // Header packets end their pages and have granule position 0; the audio begins with the first page that does not.
    for page in pages.iter().skip(1).skip_while(|page| page[6..14] == [0; 8]) {
        let mut page = page.to_vec();
        page[18..22].copy_from_slice(&u32::to_le_bytes(sequence));
        sequence += 1;
        checksum(&mut page);
        out.extend_from_slice(&page);
    }
    Ok(out)
}

/// Cuts a file into its pages.
pub(super) fn split(mut file: &[u8]) -> Option<Vec<&[u8]>> {
    let mut pages = Vec::new();
    while !file.is_empty() {
        if !file.starts_with(b"OggS") {
            return None;
        }
        let segments = usize::from(*file.get(26)?);
        let table = file.get(HEADER..HEADER + segments)?;
        let len = HEADER + segments + table.iter().map(|n| usize::from(*n)).sum::<usize>();
        pages.push(file.get(..len)?);
        file = &file[len..];
    }
    Some(pages)
}

/// Lays one packet out over as many pages as it needs.
pub(super) fn paginate(packet: &[u8], serial: &[u8], sequence: &mut u32) -> Vec<Vec<u8>> {
    let mut lacing: Vec<u8> = vec![SEGMENT as u8; packet.len() / SEGMENT];
    lacing.push((packet.len() % SEGMENT) as u8);
    let mut rest = packet;
    let mut pages = Vec::new();
    for (n, table) in lacing.chunks(SEGMENT).enumerate() {
        let (body, after) = rest.split_at(table.iter().map(|n| usize::from(*n)).sum());
        rest = after;
        let ends = table.last().is_some_and(|n| usize::from(*n) < SEGMENT);
        let mut page = b"OggS\0".to_vec();
        page.push(u8::from(n > 0));
        // A page on which no packet ends has no position.
        page.extend_from_slice(&if ends { [0; 8] } else { [0xff; 8] });
        page.extend_from_slice(serial);
        page.extend_from_slice(&sequence.to_le_bytes());
        page.extend_from_slice(&[0; 4]);
        page.push(table.len() as u8);
        page.extend_from_slice(table);
        page.extend_from_slice(body);
        *sequence += 1;
        checksum(&mut page);
        pages.push(page);
    }
    pages
}

/// Writes a page's CRC (polynomial 0x04c11db7, not reflected, over the page with the CRC's own bytes zero).
pub(super) fn checksum(page: &mut [u8]) {
    page[22..26].fill(0);
    let crc = page.iter().fold(0_u32, |crc, byte| {
        let [high, ..] = crc.to_be_bytes();
        (crc << 8) ^ CRC_TABLE[usize::from(high ^ byte)]
    });
    page[22..26].copy_from_slice(&crc.to_le_bytes());
}

/// What each byte does to the CRC.
const CRC_TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = (byte as u32) << 24;
        let mut bit = 0;
        while bit < 8 {
            crc = (crc << 1) ^ if crc & 0x8000_0000 != 0 { 0x04c1_1db7 } else { 0 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::library::{Cover, Sample, Track};

    #[test]
    fn checksum_of_the_sample_is_what_its_encoder_wrote() {
        for page in split(Sample::OggFlac.bytes()).unwrap() {
            let mut own = page.to_vec();
            checksum(&mut own);
            assert_eq!(own, page);
        }
    }

    #[test]
    fn long_comment_spreads_over_pages_in_order() {
        let long = "x".repeat(200_000);
        let bytes = Track::new(Sample::OggFlac).comment(long).cover(Cover::Png).to_bytes().unwrap();
        let pages = split(&bytes).unwrap();
        assert!(pages.len() > 4);
        for (n, page) in pages.iter().enumerate() {
            assert_eq!(page[18..22], (n as u32).to_le_bytes());
        }
    }
}
