//! Which file is which former one: decided purely.
//!
//! A file that moved is known by what it holds: the audio, and where nothing identifies that, its size and time. A
//! file that went while the same track came in another format is superseded. Candidates are taken in the order of
//! their paths, so that the outcome depends on neither the order of a listing nor that of ids.
//!
//! Where a file is not what it was, what it was may be elsewhere by now, and what is there may have come from
//! elsewhere ([`Replaced`]): names that are in use are exchanged like any. A file is replaced in its place where
//! neither is so.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use musicfs_core::{AudioIdentity, FileId, FileKind, FileMeta, FileState, FileVersion, Format, OriginPath};

#[cfg(test)]
mod tests;

/// Difference in playing time up to which two files may be the same track in two formats.
const SAME_LENGTH_MS: u64 = 3_000;

/// What is compared of a file.
#[derive(Clone, Debug)]
pub(super) struct Trace {
    pub(super) id: FileId,
    pub(super) path: OriginPath,
    /// What it was before this pass.
    state: FileState,
    kind: FileKind,
    pub(super) version: FileVersion,
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
            state: file.state,
            kind: file.kind,
            version: file.version.clone(),
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
                let mtime = self.version.mtime?;
                (self.kind as u8, self.version.size, mtime, &self.identity, self.path.file_name())
                    .hash(&mut hasher);
            }
            Rule::Renamed => {
                let mtime = self.version.mtime?;
                (self.kind as u8, self.version.size, mtime, &self.identity).hash(&mut hasher);
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

    /// What was there just now comes before what was not shown, and that before what has been missing since before.
    fn rank(&self) -> u8 {
        match self.state {
            FileState::Present | FileState::Pending => 0,
            FileState::Excluded => 1,
            FileState::Missing => 2,
        }
    }

    fn ousted(&self) -> Ousted {
        Ousted { id: self.id, path: self.path.clone(), hidden: self.is_hidden() }
    }

    /// Tells whether it is excluded, or was when another took its place.
    pub(super) fn is_hidden(&self) -> bool {
        self.state == FileState::Excluded
    }

    /// Tells whether this and another file are one by their audio, size and time.
    pub(super) fn is_renamed(&self, other: &Self) -> bool {
        self.has_audio_of(other) && Rule::Renamed.agrees(self, other)
    }

    /// Tells whether this and another file hold the same audio, where that can be told.
    pub(super) fn has_audio_of(&self, other: &Self) -> bool {
        self.identity.is_some() && Rule::SameAudio.agrees(self, other)
    }

    /// Tells whether one may take the other's place as another copy of the same track.
    fn is_track_of(&self, other: &Self) -> bool {
        (self.track.is_some() && self.track == other.track) || self.has_audio_of(other)
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

impl Rule {
    /// By these a file is known wherever it is.
    const EXACT: [Self; 2] = [Self::SameInAll, Self::Renamed];
    /// By these it is known when its own place holds something else.
    const AUDIO: [Self; 3] = [Self::SameAudioAndName, Self::SameAudioAndTrack, Self::SameAudio];

    /// Compares what the key of a rule does not: keys are hashes.
    fn agrees(self, old: &Trace, new: &Trace) -> bool {
        let same_audio = old.format == new.format && old.identity == new.identity && old.kind == new.kind;
        match self {
            Self::SameInAll | Self::Renamed => {
                same_audio && old.version.size == new.version.size && old.version.mtime == new.version.mtime
            }
            Self::SameAudioAndName | Self::SameAudioAndTrack | Self::SameAudio => same_audio,
            Self::OtherFormat => {
                old.format != new.format && old.duration_ms.abs_diff(new.duration_ms) <= SAME_LENGTH_MS
            }
        }
    }
}

/// A known file whose path holds something else than it did.
#[derive(Clone, Debug)]
pub(super) struct Replaced {
    /// What it was.
    pub(super) old: Trace,
    /// What is there, under the id that this is recorded under meanwhile.
    pub(super) new: Trace,
}

/// What there is to compare.
#[derive(Clone, Debug, Default)]
pub(super) struct Found {
    /// Files that are not where they were.
    pub(super) gone: Vec<Trace>,
    /// New files.
    pub(super) arrived: Vec<Trace>,
    /// Known files that are not what they were.
    pub(super) replaced: Vec<Replaced>,
}

/// A file that was recorded as new, or apart from the one at its path, and is a former one.
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
    /// Its version is another.
    pub(super) changed: bool,
    /// It holds the audio that it did.
    pub(super) same_audio: bool,
    /// The former file was excluded.
    pub(super) hidden: bool,
}

/// A former file that is nowhere, while another is in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ousted {
    pub(super) id: FileId,
    /// Where it was.
    pub(super) path: OriginPath,
    /// It was excluded.
    pub(super) hidden: bool,
}

/// Which files are which.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// Those that are elsewhere.
    pub(super) moves: Vec<Move>,
    /// Those that stay where they are, as what is there now.
    pub(super) stays: Vec<Move>,
    /// Those that are nowhere, while another is in their place.
    pub(super) ousted: Vec<Ousted>,
    /// What is new where a former file moved away: the id it is recorded under, and its path.
    pub(super) fresh: Vec<(FileId, OriginPath)>,
    /// What is recorded and must wait: see [`Ousting::Never`].
    pub(super) undecided: Vec<FileId>,
}

/// Whether a file may take the place of one that is found nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ousting {
    /// It may: that one is gone then.
    Allowed,
    /// Nothing is believed to be gone: both stay as they are.
    Never,
}

/// Finds the former file of each new one that has one, and what becomes of files that were replaced.
pub(super) fn plan(found: Found, ousting: Ousting) -> Plan {
    let mut matching = Matching::new(found);
    matching.apply_all(&Rule::EXACT);
    matching.stay_with_audio();
    matching.apply_all(&Rule::AUDIO);
    matching.settle_ousted(ousting);
    matching.supersede();
    matching.into_plan()
}

/// Returns what came and is no file that has just gone, and those that the rest of it is. What is like a file that was
/// missing before may be another that is not known to have gone.
pub(super) fn unexplained(found: &Found) -> (Vec<Trace>, HashSet<FileId>) {
    let missing: HashSet<FileId> =
        found.gone.iter().filter(|old| old.rank() == 2).map(|old| old.id).collect();
    let moves = plan(found.clone(), Ousting::Allowed).moves;
    let known = || moves.iter().filter(|known| !missing.contains(&known.old));
    let explained: HashSet<FileId> = known().map(|known| known.new).collect();
    let came = found.arrived.iter().chain(found.replaced.iter().map(|replaced| &replaced.new));
    let came = came.filter(|trace| !explained.contains(&trace.id)).cloned().collect();
    (came, known().map(|known| known.old).collect())
}

/// What others may be one of: by size and time, or by their audio.
#[derive(Default)]
pub(super) struct Alike {
    ids: HashSet<FileId>,
    keys: HashSet<u64>,
}

impl Alike {
    const RULES: [Rule; 2] = [Rule::Renamed, Rule::SameAudio];

    fn keys(file: &Trace) -> impl Iterator<Item = u64> {
        Self::RULES.into_iter().filter_map(|rule| file.key(rule))
    }

    /// Gathers what others are compared with.
    pub(super) fn to(files: &[Trace]) -> Self {
        Self {
            ids: files.iter().map(|file| file.id).collect(),
            keys: files.iter().flat_map(Self::keys).collect(),
        }
    }

    /// Tells whether a file may be one of those, and is none of them under its own id.
    pub(super) fn has(&self, file: &Trace) -> bool {
        !self.ids.contains(&file.id) && Self::keys(file).any(|key| self.keys.contains(&key))
    }
}

/// A former file or a new one, and what it is taken for.
struct Side {
    trace: Trace,
    /// The other side of the [`Replaced`] that it is part of.
    twin: Option<usize>,
    matched: Option<usize>,
    /// It is another format of what it is taken for.
    supersedes: bool,
    /// What became of it is settled without a match.
    settled: bool,
}

impl Side {
    fn is_open(&self) -> bool {
        self.matched.is_none() && !self.settled
    }

    fn takes_part(&self, rule: Rule, when: When) -> bool {
        // Of what the user does not want to see, another copy may be what is wanted.
        let of_use = rule != Rule::OtherFormat || self.trace.state != FileState::Excluded;
        self.is_open() && of_use && (when == When::Any || self.trace.rank() == 0)
    }
}

/// Which former files take part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    /// What was there just now.
    Now,
    /// And what was gone before.
    Any,
}

struct Matching {
    olds: Vec<Side>,
    news: Vec<Side>,
}

impl Matching {
    fn new(Found { mut gone, mut arrived, replaced }: Found) -> Self {
        let mut twins: HashMap<FileId, FileId> = HashMap::new();
        for Replaced { old, new } in replaced {
            twins.insert(old.id, new.id);
            gone.push(old);
            arrived.push(new);
        }
        gone.sort_by(|a, b| (a.rank(), &a.path, a.id).cmp(&(b.rank(), &b.path, b.id)));
        arrived.sort_by(|a, b| (&a.path, a.id).cmp(&(&b.path, b.id)));
        let at: HashMap<FileId, usize> = arrived.iter().enumerate().map(|(at, new)| (new.id, at)).collect();
        let side = |trace, twin| Side { trace, twin, matched: None, supersedes: false, settled: false };
        let twin_of = |trace: &Trace| twins.get(&trace.id).and_then(|new| at.get(new)).copied();
        let olds: Vec<Side> = gone
            .into_iter()
            .map(|trace| {
                let twin = twin_of(&trace);
                side(trace, twin)
            })
            .collect();
        let mut news: Vec<Side> = arrived.into_iter().map(|trace| side(trace, None)).collect();
        for (old, new) in olds.iter().enumerate().filter_map(|(at, old)| Some((at, old.twin?))) {
            news[new].twin = Some(old);
        }
        Self { olds, news }
    }

    /// Matches what agrees by any of these rules, the first that does, and first of all with what was there just now.
    fn apply_all(&mut self, rules: &[Rule]) {
        for when in [When::Now, When::Any] {
            rules.iter().for_each(|rule| self.apply(*rule, when));
        }
    }

    /// Matches what agrees by a rule, each with what was in its own place first.
    fn apply(&mut self, rule: Rule, when: When) {
        let mut by_key: HashMap<u64, Vec<usize>> = HashMap::new();
        for (at, old) in self.olds.iter().enumerate() {
            if old.takes_part(rule, when)
                && let Some(key) = old.trace.key(rule)
            {
                by_key.entry(key).or_default().push(at);
            }
        }
        if by_key.is_empty() {
            return;
        }
        for new in 0..self.news.len() {
            let side = &self.news[new];
            if !side.is_open() {
                continue;
            }
            let Some(found) = side.trace.key(rule).and_then(|key| by_key.get(&key)) else { continue };
            let own = side.twin.filter(|own| found.contains(own));
            let is_it = |at: &usize| {
                let old = &self.olds[*at];
                old.matched.is_none() && rule.agrees(&old.trace, &side.trace)
            };
            if let Some(old) = own.into_iter().chain(found.iter().copied()).find(is_it) {
                self.join(old, new);
                self.news[new].supersedes = rule == Rule::OtherFormat;
            }
        }
    }

    fn join(&mut self, old: usize, new: usize) {
        self.olds[old].matched = Some(new);
        self.news[new].matched = Some(old);
    }

    /// A file whose own place still holds its audio stays, whatever else holds the same.
    fn stay_with_audio(&mut self) {
        for (old, new) in self.twins() {
            let (was, is) = (&self.olds[old], &self.news[new]);
            if was.is_open() && is.is_open() && was.trace.has_audio_of(&is.trace) {
                self.join(old, new);
            }
        }
    }

    fn twins(&self) -> Vec<(usize, usize)> {
        self.olds.iter().enumerate().filter_map(|(at, old)| Some((at, old.twin?))).collect()
    }

    /// Decides on files whose place was taken and that are found nowhere. Another copy of the same track in its place,
    /// wherever it came from, is that track still, and what it came as is gone.
    fn settle_ousted(&mut self, ousting: Ousting) {
        let mut open = self.twins();
        while let Some((old, new)) = open.pop() {
            let (was, is) = (&self.olds[old], &self.news[new]);
            let Some(taker) = is.matched.filter(|taker| *taker != old && was.is_open()) else { continue };
            let stays = was.trace.is_track_of(&is.trace);
            if !stays && ousting == Ousting::Allowed {
                continue;
            }
            self.olds[taker].matched = None;
            self.news[new].matched = None;
            if stays {
                self.join(old, new);
            } else {
                self.olds[old].settled = true;
                self.news[new].settled = true;
            }
            // Now that one may stand without its place.
            open.extend(self.olds[taker].twin.map(|new| (taker, new)));
        }
    }

    /// Lets better copies take the place of what is gone. What is replaced where it was stays.
    fn supersede(&mut self) {
        for (old, new) in self.twins() {
            let (was, is) = (&self.olds[old], &self.news[new]);
            if was.is_open() && is.is_open() && was.trace.path == is.trace.path {
                self.join(old, new);
            }
        }
        self.apply(Rule::OtherFormat, When::Any);
    }

    fn into_plan(self) -> Plan {
        let mut plan = Plan::default();
        for new in &self.news {
            let (id, path) = (new.trace.id, new.trace.path.clone());
            match new.matched {
                Some(old) => {
                    let stays = new.twin == Some(old);
                    let old = &self.olds[old].trace;
                    let changed = !old.version.is_same(&new.trace.version);
                    let same_audio = old.has_audio_of(&new.trace);
                    let (from, supersedes) = (old.path.clone(), new.supersedes);
                    let hidden = old.state == FileState::Excluded;
                    let found = Move {
                        old: old.id,
                        from,
                        new: id,
                        to: path,
                        supersedes,
                        changed,
                        same_audio,
                        hidden,
                    };
                    if stays { plan.stays.push(found) } else { plan.moves.push(found) }
                }
                None if new.settled => plan.undecided.push(id),
                None if new.twin.is_some() => plan.fresh.push((id, path)),
                None => {}
            }
        }
        let ousted =
            self.olds.iter().filter(|old| old.twin.is_some() && old.is_open() && old.trace.rank() < 2);
        plan.ousted = ousted.map(|old| old.trace.ousted()).collect();
        plan
    }
}
