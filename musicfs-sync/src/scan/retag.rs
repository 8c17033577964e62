//! Files whose tags changed and whose audio did not: what is cached of the audio stays.
//!
//! That the audio is the same is believed of FLAC alone, whose files carry an MD5 of it, and only when as many bytes of
//! audio are stored as before and those looked at are the ones that are cached. Of other formats no more than samples
//! are known; what was cached of them is fetched again.

use std::sync::Arc;

use futures::future::try_join_all;
use musicfs_core::{
    AudioIdentity, ByteRange, ChunkExtent, ChunkManifest, ChunkStore, FileMeta, FileVersion, MetaDb, Origin,
};

use super::{ScanError, blocking};

/// Bytes compared at one place.
const SAMPLE: u64 = 4 * 1024;
/// Places that are compared: with the head of the file, less than a block of audio in all.
const PLACES: usize = 5;

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
    if shifted.extents().is_empty() {
        return Ok(None);
    }
    let places = places(shifted.extents());
    // Whatever fails here costs the chunks, no more.
    let same =
        try_join_all(places.iter().map(|(extent, place)| compare(chunks, origin, new, extent, *place)));
    Ok(same.await.is_ok().then_some(shifted))
}

/// The bytes differ, or one side cannot be read.
struct Unlike;

async fn compare(
    chunks: &dyn ChunkStore,
    origin: &dyn Origin,
    new: &FileMeta,
    extent: &ChunkExtent,
    place: ByteRange,
) -> Result<(), Unlike> {
    let cached = chunks.get(&extent.hash).await.map_err(|_| Unlike)?.ok_or(Unlike)?;
    let there = origin.read(&new.path, &new.version, place).await.map_err(|_| Unlike)?;
    let from = usize::try_from(place.start() - extent.range.start()).map_err(|_| Unlike)?;
    match cached.get(from..).and_then(|rest| rest.get(..there.len())) {
        Some(cached) if cached == there && there.len() as u64 == place.len() => Ok(()),
        _ => Err(Unlike),
    }
}

/// Returns the places to compare: within chunks that are spread over the file.
fn places(extents: &[ChunkExtent]) -> Vec<(ChunkExtent, ByteRange)> {
    let last = extents.len() - 1;
    let mut chosen: Vec<usize> = (0..PLACES).map(|n| last * n / (PLACES - 1)).collect();
    chosen.dedup();
    let place = |n: usize| {
        let extent = extents[n];
        let middle = extent.range.start() + extent.range.len() / 2;
        (extent, ByteRange::at(middle, SAMPLE).intersect(&extent.range).unwrap_or(extent.range))
    };
    chosen.into_iter().map(place).collect()
}

/// Returns the chunks of a former version's audio where they are in a new version with the same audio; none when it is
/// not known to be the same.
fn shifted(old: &FileMeta, of: &FileVersion, cached: &ChunkManifest, new: &FileMeta) -> ChunkManifest {
    let mut shifted = ChunkManifest::default();
    let (Some(before), Some(after)) = (&old.audio, &new.audio) else { return shifted };
    let (Some(from), Some(to)) = (before.audio_region, after.audio_region) else { return shifted };
    let proven = matches!(&after.identity, Some(AudioIdentity::FlacMd5 { .. }));
    let same = proven && before.identity == after.identity && from.len() == to.len();
    if !same || !of.is_same(&old.version) || new.version.is_same(&old.version) {
        return shifted;
    }
    let inside =
        |extent: &&ChunkExtent| from.start() <= extent.range.start() && extent.range.end() <= from.end();
    for extent in cached.extents().iter().filter(inside) {
        let start = to.start() + (extent.range.start() - from.start());
        shifted.insert(ChunkExtent { range: ByteRange::at(start, extent.range.len()), hash: extent.hash });
    }
    shifted
}

#[cfg(test)]
mod tests {
    use super::*;
    use musicfs_core::{AudioMeta, ChunkHash, UnixNanos};
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
        let ranges: Vec<_> = kept.extents().iter().map(|e| (e.range.start(), e.range.end())).collect();
        assert_eq!(ranges, [(300, 600), (700, 1300)]);
        assert_eq!(kept.extents()[0].hash, cached.extents()[1].hash);
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
        for file in [&mut sampled.0, &mut sampled.1] {
            let identity = AudioIdentity::Sampled { bytes: 1000, hash: ChunkHash::of(b"x") };
            file.audio.as_mut().unwrap().identity = Some(identity);
        }
        none(&sampled.0, &sampled.0.version, &sampled.1);
    }

    #[test]
    fn places_to_compare_are_spread_and_lie_in_their_chunks() {
        for chunks in 1..20u64 {
            let all: Vec<(u64, u64)> = (0..chunks).map(|n| (n * 10_000, n * 10_000 + 9_000)).collect();
            let manifest = manifest(&all);
            let places = places(manifest.extents());
            assert_eq!(places.len(), (chunks as usize).min(PLACES));
            for (extent, place) in &places {
                assert!(extent.range.start() <= place.start() && place.end() <= extent.range.end());
                assert!(place.len() == SAMPLE);
            }
            assert_eq!(places.last().unwrap().0.range.end(), all.last().unwrap().1);
        }
    }
}
