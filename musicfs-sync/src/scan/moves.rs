//! Which new file is which former one: decided purely.
//!
//! A file that moved is known by what it holds: the audio, and where nothing identifies that, its size and time. A
//! file that went while the same track came in another format is superseded. Candidates are taken in the order of
//! their paths, so that the outcome depends on neither the order of a listing nor that of ids.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use musicfs_core::{AudioIdentity, FileId, FileKind, FileMeta, FileState, Format, OriginPath, UnixNanos};

/// Difference in playing time up to which two files may be the same track in two formats.
const SAME_LENGTH_MS: u64 = 3_000;

/// What is compared of a file.
#[derive(Clone, Debug)]
pub(super) struct Trace {
    pub(super) id: FileId,
    pub(super) path: OriginPath,
    /// It was missing before this pass.
    missing: bool,
    kind: FileKind,
    size: u64,
    mtime: Option<UnixNanos>,
    format: Option<Format>,
    identity: Option<AudioIdentity>,
    /// Album, disc, number and title, when there are an album and a title.
    track: Option<u64>,
    duration_ms: u64,
}

impl Trace {
    pub(super) fn of(file: &FileMeta) -> Self {
        let audio = file.audio.as_deref();
        let track = file.album_key().zip(audio).and_then(|(album, audio)| {
            let mut hasher = DefaultHasher::new();
            let title = audio.title.as_ref()?.to_lowercase();
            (album.raw(), audio.disc, audio.track, title).hash(&mut hasher);
            Some(hasher.finish())
        });
        Self {
            id: file.id,
            path: file.path.clone(),
            missing: file.state == FileState::Missing,
            kind: file.kind,
            size: file.version.size,
            mtime: file.version.mtime,
            format: file.format,
            identity: audio.and_then(|audio| audio.identity.clone()),
            track,
            duration_ms: audio.map_or(0, |audio| audio.duration_ms),
        }
    }

    fn key(&self, rule: Rule) -> Option<u64> {
        let mut hasher = DefaultHasher::new();
        let is_audio = self.kind == FileKind::Audio;
        match rule {
            Rule::SameInAll => {
                let mtime = self.mtime?;
                (self.kind as u8, self.size, mtime, &self.identity, self.path.file_name()).hash(&mut hasher);
            }
            Rule::Renamed => {
                let mtime = self.mtime?;
                (self.kind as u8, self.size, mtime, &self.identity).hash(&mut hasher);
            }
            Rule::SameAudioAndName => {
                (self.format, self.identity.as_ref()?, self.path.stem_and_extension().0).hash(&mut hasher);
            }
            Rule::SameAudioAndTrack => {
                (self.format, self.identity.as_ref()?, self.track?).hash(&mut hasher);
            }
            Rule::SameAudio => (self.format, self.identity.as_ref()?).hash(&mut hasher),
            Rule::OtherFormat if is_audio => self.track?.hash(&mut hasher),
            Rule::OtherFormat => return None,
        }
        Some(hasher.finish())
    }
}

/// By what two files are taken for one, the surest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    SameInAll,
    Renamed,
    SameAudioAndName,
    SameAudioAndTrack,
    SameAudio,
    OtherFormat,
}

const RULES: [Rule; 6] = [
    Rule::SameInAll,
    Rule::Renamed,
    Rule::SameAudioAndName,
    Rule::SameAudioAndTrack,
    Rule::SameAudio,
    Rule::OtherFormat,
];

/// A new file that is a former one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Move {
    /// The former file, whose id stays.
    pub(super) old: FileId,
    /// Where it was.
    pub(super) from: OriginPath,
    /// The id under which the new file was recorded.
    pub(super) new: FileId,
    /// Where it is.
    pub(super) to: OriginPath,
    /// It is the same track in another format.
    pub(super) supersedes: bool,
}

/// Finds the former file of each new one that has one.
pub(super) fn follow(mut gone: Vec<Trace>, mut arrived: Vec<Trace>) -> Vec<Move> {
    // What was there just now rather than what has been missing since before.
    gone.sort_by(|a, b| (a.missing, &a.path).cmp(&(b.missing, &b.path)));
    arrived.sort_by(|a, b| a.path.cmp(&b.path));
    let mut taken = vec![false; gone.len()];
    let mut moves = Vec::new();
    for rule in RULES {
        let mut by_key: HashMap<u64, Vec<usize>> = HashMap::new();
        for (at, trace) in gone.iter().enumerate().filter(|(at, _)| !taken[*at]) {
            if let Some(key) = trace.key(rule) {
                by_key.entry(key).or_default().push(at);
            }
        }
        if by_key.is_empty() {
            continue;
        }
        arrived.retain(|new| {
            let Some(found) = new.key(rule).and_then(|key| by_key.get(&key)) else { return true };
            let Some(at) = found.iter().copied().find(|at| !taken[*at] && agrees(rule, &gone[*at], new))
            else {
                return true;
            };
            taken[at] = true;
            moves.push(Move {
                old: gone[at].id,
                from: gone[at].path.clone(),
                new: new.id,
                to: new.path.clone(),
                supersedes: rule == Rule::OtherFormat,
            });
            false
        });
    }
    moves
}

/// Compares what the key of a rule does not: keys are hashes.
fn agrees(rule: Rule, old: &Trace, new: &Trace) -> bool {
    let same_audio = old.format == new.format && old.identity == new.identity && old.kind == new.kind;
    match rule {
        Rule::SameInAll | Rule::Renamed => same_audio && old.size == new.size && old.mtime == new.mtime,
        Rule::SameAudioAndName | Rule::SameAudioAndTrack | Rule::SameAudio => same_audio,
        Rule::OtherFormat => {
            old.format != new.format && old.duration_ms.abs_diff(new.duration_ms) <= SAME_LENGTH_MS
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use musicfs_core::{AudioMeta, ChunkHash, FileVersion, OriginId};
    use proptest::prelude::*;

    fn file(path: &str, content: u8, size: u64, mtime: i64) -> Trace {
        let path = OriginPath::new(path).unwrap();
        let hash = ChunkHash::of(&[content]);
        let audio = AudioMeta {
            title: Some(format!("Title {content}")),
            album: Some("Album".into()),
            duration_ms: 200_000,
            identity: Some(AudioIdentity::Sampled { bytes: 1, hash }),
            ..AudioMeta::default()
        };
        Trace::of(&FileMeta {
            id: FileId::derive(&OriginId::from("o"), &path, 0),
            origin: "o".into(),
            path,
            version: FileVersion { size, mtime: Some(UnixNanos(mtime)), etag: None },
            kind: FileKind::Audio,
            state: FileState::Present,
            format: Some(Format::Flac),
            audio: Some(Box::new(audio)),
            problem: None,
            shown_at: None,
        })
    }

    fn followed(gone: &[Trace], arrived: &[Trace]) -> Vec<(String, String)> {
        let moves = follow(gone.to_vec(), arrived.to_vec());
        let mut pairs: Vec<_> = moves.iter().map(|m| (m.from.to_string(), m.to.to_string())).collect();
        pairs.sort();
        pairs
    }

    #[test]
    fn moved_file_is_known_by_its_audio_whatever_its_tags_and_name() {
        let gone = [file("a/1.flac", 1, 10, 5), file("a/2.flac", 2, 10, 5)];
        let arrived = [file("b/Two.flac", 2, 17, 9), file("b/1.flac", 1, 10, 5), file("b/3.flac", 3, 10, 5)];
        assert_eq!(
            followed(&gone, &arrived),
            [("a/1.flac".into(), "b/1.flac".into()), ("a/2.flac".into(), "b/Two.flac".into())]
        );
    }

    #[test]
    fn of_several_copies_each_is_followed_once_and_by_its_name_first() {
        let gone = [file("a/1.flac", 1, 10, 5), file("a/2.flac", 1, 10, 5)];
        let arrived = [file("b/2.flac", 1, 10, 5), file("b/1.flac", 1, 10, 5), file("b/0.flac", 1, 10, 5)];
        assert_eq!(
            followed(&gone, &arrived),
            [("a/1.flac".into(), "b/1.flac".into()), ("a/2.flac".into(), "b/2.flac".into())]
        );
    }

    #[test]
    fn better_copy_supersedes_and_another_track_does_not() {
        let mp3 = Trace { format: Some(Format::Mp3), identity: None, ..file("a/1.mp3", 1, 3, 1) };
        let flac = file("a/1.flac", 1, 10, 5);
        let moves = follow(vec![mp3.clone()], vec![flac.clone()]);
        assert!(moves.len() == 1 && moves[0].supersedes);
        let longer = Trace { duration_ms: 300_000, ..flac };
        assert!(follow(vec![mp3.clone()], vec![longer]).is_empty());
        assert!(follow(vec![mp3], vec![file("a/1.flac", 2, 10, 5)]).is_empty());
    }

    proptest! {
        #[test]
        fn outcome_does_not_depend_on_order_and_takes_each_file_once(
            gone in prop::collection::btree_map(0u8..12, (0u8..4, 0u64..2, 0i64..2), 0..8),
            arrived in prop::collection::btree_map(0u8..12, (0u8..4, 0u64..2, 0i64..2), 0..8),
        ) {
            let traces = |at: &str, files: &std::collections::BTreeMap<u8, (u8, u64, i64)>| -> Vec<Trace> {
                files.iter().map(|(n, (c, s, m))| file(&format!("{at}/{n}.flac"), *c, *s, *m)).collect()
            };
            let (gone, arrived) = (traces("a", &gone), traces("b", &arrived));
            let forward = followed(&gone, &arrived);
            let turned = |all: &[Trace]| all.iter().rev().cloned().collect::<Vec<_>>();
            prop_assert_eq!(&forward, &followed(&turned(&gone), &turned(&arrived)));
            let mut to: Vec<_> = forward.iter().map(|(_, to)| to).collect();
            to.sort();
            to.dedup();
            prop_assert_eq!(to.len(), forward.len());
        }
    }
}
