//! Files whose tags changed and whose audio did not: what is cached of the audio stays.
//!
//! The audio is taken for the same when what identifies it is (FLAC's own MD5, samples of other formats), as many bytes
//! of it are stored as before, and those looked at are the ones that are cached. The pages of an Ogg file are numbered
//! anew when its comments take up more of them: so places where pages begin are looked at.
//!
//! What stays is a guess ([`ChunkManifest::guesses`]): who reads it compares it, and somebody does in the end.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::try_join_all;
use musicfs_core::{
    ByteRange, ChunkExtent, ChunkManifest, ChunkStore, FileMeta, FileVersion, Format, MetaDb, Origin,
};

use super::{ScanError, blocking};

/// Bytes compared at one place.
const SAMPLE: u64 = 2 * 1024;
/// Places that are compared: with what is read for its tags, less than 64 KiB of a file in all.
const PLACES: usize = 5;
/// What the pages of an Ogg file begin with.
const OGG_PAGE: &[u8] = b"OggS\0";

/// Returns what is cached of a file's former version and belongs to this new one as well.
pub(super) async fn still_cached(
    db: &Arc<dyn MetaDb>,
    chunks: &dyn ChunkStore,
    origin: &dyn Origin,
    new: &FileMeta,
) -> Result<Option<ChunkManifest>, ScanError> {
    let (db, id) = (db.clone(), new.id);
    let (old, saved) = blocking(move || Ok::<_, ScanError>((db.file(id)?, db.manifest(id)?))).await??;
    let (Some(old), Some((version, manifest))) = (old, saved) else { return Ok(None) };
    let shifted = shifted(&old, &version, &manifest, new);
    if shifted.guesses().is_empty() {
        return Ok(None);
    }
    let compared = spread(shifted.guesses()).into_iter().map(|extent| compare(chunks, origin, new, extent));
    // Whatever fails here costs the chunks, no more.
    let same = try_join_all(compared).await.is_ok_and(|compared| compared.contains(&Compared::Same));
    Ok(same.then_some(shifted))
}

/// What came of a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compared {
    /// The bytes are the same.
    Same,
    /// The chunk has nothing that tells.
    Nothing,
}

/// The bytes differ, or one side cannot be read.
struct Unlike;

async fn compare(
    chunks: &dyn ChunkStore,
    origin: &dyn Origin,
    new: &FileMeta,
    extent: ChunkExtent,
) -> Result<Compared, Unlike> {
    let cached = chunks.get(&extent.hash).await.map_err(|_| Unlike)?.ok_or(Unlike)?;
    let Some(sample) = sample(new.format, &cached) else { return Ok(Compared::Nothing) };
    let place = ByteRange::at(extent.range.start() + sample.start(), sample.len());
    let there = origin.read(&new.path, &new.version, place).await.map_err(|_| Unlike)?;
    let cached = cached.slice(sample.start() as usize..sample.end() as usize);
    if cached == there { Ok(Compared::Same) } else { Err(Unlike) }
}

/// Returns chunks that are spread over the file.
fn spread(extents: &[ChunkExtent]) -> Vec<ChunkExtent> {
    let last = extents.len() - 1;
    let mut chosen: Vec<usize> = (0..PLACES).map(|n| last * n / (PLACES - 1)).collect();
    chosen.dedup();
    chosen.into_iter().map(|n| extents[n]).collect()
}

/// Chooses what is compared of a chunk; `None` when it has nothing that would tell.
fn sample(format: Option<Format>, chunk: &Bytes) -> Option<ByteRange> {
    let middle = chunk.len() / 2;
    let from = if format == Some(Format::Ogg) {
        let page_in = |bytes: &[u8]| bytes.windows(OGG_PAGE.len()).position(|at| at == OGG_PAGE);
        page_in(&chunk[middle..]).map(|at| middle + at).or_else(|| page_in(chunk))?
    } else {
        middle
    };
    Some(ByteRange::at(from as u64, SAMPLE).clamp_to(chunk.len() as u64))
}

/// Returns the chunks of a former version's audio where they are in a new version with the same audio; none when it is
/// not known to be the same.
fn shifted(old: &FileMeta, of: &FileVersion, cached: &ChunkManifest, new: &FileMeta) -> ChunkManifest {
    let mut shifted = ChunkManifest::default();
    let (Some(before), Some(after)) = (&old.audio, &new.audio) else { return shifted };
    let (Some(from), Some(to)) = (before.audio_region, after.audio_region) else { return shifted };
    let same_audio =
        after.identity.is_some() && before.identity == after.identity && old.format == new.format;
    let same = same_audio && from.len() == to.len();
    if !same || !of.is_same(&old.version) || new.version.is_same(&old.version) {
        return shifted;
    }
    let inside =
        |extent: &&ChunkExtent| from.start() <= extent.range.start() && extent.range.end() <= from.end();
    for extent in cached.all().filter(inside) {
        let start = to.start() + (extent.range.start() - from.start());
        shifted.guess(ChunkExtent { range: ByteRange::at(start, extent.range.len()), hash: extent.hash });
    }
    shifted
}

#[cfg(test)]
mod tests {
    use super::*;
    use musicfs_core::{AudioIdentity, AudioMeta, ChunkHash, UnixNanos};
    use musicfs_test_utils::make_file_meta;

    fn file(version: u64, region: (u64, u64), md5: u8) -> FileMeta {
        let identity = AudioIdentity::FlacMd5 { md5: [md5; 16], samples: 9 };
        let audio = AudioMeta {
            identity: Some(identity),
            audio_region: Some(ByteRange::new(region.0, region.1)),
            ..AudioMeta::default()
        };
        let mut file = make_file_meta(1, "a.flac", region.1);
        file.version.mtime = Some(UnixNanos(version as i64));
        file.audio = Some(Box::new(audio));
        file
    }

    fn manifest(ranges: &[(u64, u64)]) -> ChunkManifest {
        let mut manifest = ChunkManifest::default();
        for (from, to) in ranges {
            let hash = ChunkHash::of(&from.to_le_bytes());
            manifest.insert(ChunkExtent { range: ByteRange::new(*from, *to), hash });
        }
        manifest
    }

    #[test]
    fn chunks_of_the_same_audio_move_with_it_and_those_of_tags_go() {
        let (old, new) = (file(1, (100, 1100), 7), file(2, (300, 1300), 7));
        let cached = manifest(&[(0, 100), (100, 400), (500, 1100)]);
        let kept = shifted(&old, &old.version, &cached, &new);
        let ranges: Vec<_> = kept.guesses().iter().map(|e| (e.range.start(), e.range.end())).collect();
        assert_eq!(ranges, [(300, 600), (700, 1300)]);
        assert_eq!(kept.guesses()[0].hash, cached.extents()[1].hash);
        assert!(kept.extents().is_empty());
    }

    #[test]
    fn chunks_are_kept_only_where_the_audio_is_known_to_be_the_same() {
        let old = file(1, (100, 1100), 7);
        let cached = manifest(&[(100, 400)]);
        let none = |old: &FileMeta, of: &FileVersion, new: &FileMeta| {
            assert_eq!(shifted(old, of, &cached, new), ChunkManifest::default());
        };
        none(&old, &old.version, &file(2, (100, 1100), 8));
        none(&old, &old.version, &file(2, (100, 1101), 7));
        none(&old, &file(3, (100, 1100), 7).version, &file(2, (300, 1300), 7));
        none(&old, &old.version, &old);
        let mut sampled = (old.clone(), file(2, (300, 1300), 7));
        for (file, hash) in [(&mut sampled.0, b"x"), (&mut sampled.1, b"y")] {
            let identity = AudioIdentity::Sampled { bytes: 1000, hash: ChunkHash::of(hash) };
            file.audio.as_mut().unwrap().identity = Some(identity);
        }
        none(&sampled.0, &sampled.0.version, &sampled.1);
        let mut other = sampled.0.clone();
        (other.version, other.format) = (file(2, (0, 1), 0).version, Some(Format::Mp3));
        none(&sampled.0, &sampled.0.version, &other);
        let mut unknown = (old.clone(), file(2, (300, 1300), 7));
        for file in [&mut unknown.0, &mut unknown.1] {
            file.audio.as_mut().unwrap().identity = None;
        }
        none(&unknown.0, &unknown.0.version, &unknown.1);
    }

    #[test]
    fn chunks_to_compare_are_spread_over_the_file() {
        for chunks in 1..20u64 {
            let all: Vec<(u64, u64)> = (0..chunks).map(|n| (n * 10_000, n * 10_000 + 9_000)).collect();
            let manifest = manifest(&all);
            let chosen = spread(manifest.extents());
            assert_eq!(chosen.len(), (chunks as usize).min(PLACES));
            assert_eq!(chosen[0], manifest.extents()[0]);
            assert_eq!(chosen.last(), manifest.extents().last());
        }
    }

    #[test]
    fn sample_lies_in_its_chunk_and_that_of_ogg_begins_with_a_page() {
        let chunk = |len: usize, pages: &[usize]| {
            let mut bytes = vec![7; len];
            pages.iter().for_each(|at| bytes[*at..*at + OGG_PAGE.len()].copy_from_slice(OGG_PAGE));
            Bytes::from(bytes)
        };
        assert_eq!(sample(Some(Format::Mp3), &chunk(9000, &[])), Some(ByteRange::at(4500, SAMPLE)));
        assert_eq!(sample(None, &chunk(100, &[])), Some(ByteRange::new(50, 100)));
        assert_eq!(sample(Some(Format::Ogg), &chunk(9000, &[])), None);
        assert_eq!(sample(Some(Format::Ogg), &chunk(9000, &[20])), Some(ByteRange::at(20, SAMPLE)));
        let after = sample(Some(Format::Ogg), &chunk(9000, &[20, 6000, 7000]));
        assert_eq!(after, Some(ByteRange::at(6000, SAMPLE)));
        assert_eq!(sample(Some(Format::Ogg), &chunk(9000, &[8990])), Some(ByteRange::new(8990, 9000)));
    }
}
