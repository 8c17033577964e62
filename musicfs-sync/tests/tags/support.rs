//! Files to parse, and an origin that counts what is asked of it.

use std::io::{Cursor, Write};
use std::sync::Mutex;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use lofty::ape::{ApeItem, ApeTag};
use lofty::config::WriteOptions;
use lofty::ogg::tag::VorbisComments;
use lofty::picture::{MimeType, Picture, PictureType};
use lofty::tag::{ItemKey, ItemValue, Tag, TagExt, TagItem, TagType};
use musicfs_core::{
    ByteRange, FileVersion, LocalAccess, Origin, OriginCaps, OriginEntry, OriginError, OriginErrorKind,
    OriginHealth, OriginId, OriginPath, ScanRequest, ScanStream,
};
use musicfs_sync::tags::{ParseError, ParseFailure, ParsedAudio, parse_file, parse_origin};

/// Content by stretches, zeros between: a large file that is not made.
#[derive(Clone, Default)]
pub(crate) struct Sparse {
    pub(crate) len: u64,
    parts: Vec<(u64, Vec<u8>)>,
}

impl Sparse {
    pub(crate) fn of(content: &[u8]) -> Self {
        Self { len: content.len() as u64, parts: vec![(0, content.to_vec())] }
    }

    pub(crate) fn push(mut self, content: &[u8]) -> Self {
        self.parts.push((self.len, content.to_vec()));
        self.len += content.len() as u64;
        self
    }

    /// Adds zeros.
    pub(crate) fn gap(mut self, len: u64) -> Self {
        self.len += len;
        self
    }

    fn read(&self, range: ByteRange) -> Vec<u8> {
        let mut out = vec![0; range.len() as usize];
        for (at, part) in &self.parts {
            if let Some(both) = ByteRange::at(*at, part.len() as u64).intersect(&range) {
                let from = (both.start() - at) as usize;
                let to = (both.start() - range.start()) as usize;
                let n = both.len() as usize;
                out[to..to + n].copy_from_slice(&part[from..from + n]);
            }
        }
        out
    }
}

/// An origin with one file, that remembers what was asked.
pub(crate) struct Counting {
    id: OriginId,
    content: Sparse,
    caps: OriginCaps,
    asked: Mutex<Vec<ByteRange>>,
    pub(crate) fails: Option<OriginErrorKind>,
}

impl Counting {
    pub(crate) fn new(content: Sparse) -> Self {
        let caps = OriginCaps::remote();
        Self { id: OriginId::from("counting"), content, caps, asked: Mutex::default(), fails: None }
    }

    pub(crate) fn with_max_range(mut self, bytes: u64) -> Self {
        self.caps = self.caps.with_max_range(bytes);
        self
    }

    pub(crate) fn asked(&self) -> u64 {
        self.asked.lock().unwrap().iter().map(ByteRange::len).sum()
    }

    pub(crate) fn requests(&self) -> usize {
        self.asked.lock().unwrap().len()
    }

    pub(crate) fn ranges(&self) -> Vec<ByteRange> {
        self.asked.lock().unwrap().clone()
    }

    pub(crate) fn version(&self) -> FileVersion {
        FileVersion { size: self.content.len, mtime: None, etag: None }
    }

    pub(crate) fn parse(&self, name: &str) -> Result<ParsedAudio, ParseFailure> {
        let path = OriginPath::new(name).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(parse_origin(self, &path, &self.version()))
    }
}

#[async_trait]
impl Origin for Counting {
    fn id(&self) -> &OriginId {
        &self.id
    }
    fn caps(&self) -> OriginCaps {
        self.caps.clone()
    }
    fn scan(&self, _: ScanRequest) -> ScanStream {
        futures::stream::empty().boxed()
    }
    async fn stat(&self, path: &OriginPath) -> Result<OriginEntry, OriginError> {
        Ok(OriginEntry { path: path.clone(), version: self.version() })
    }
    async fn read(
        &self,
        path: &OriginPath,
        version: &FileVersion,
        range: ByteRange,
    ) -> Result<Bytes, OriginError> {
        assert!(version.is_same(&self.version()));
        assert!(range.len() <= self.caps.max_range);
        if let Some(kind) = self.fails {
            return Err(OriginError::new(&self.id, path, kind));
        }
        let range = range.clamp_to(self.content.len);
        self.asked.lock().unwrap().push(range);
        Ok(self.content.read(range).into())
    }
    async fn health(&self) -> Result<OriginHealth, OriginError> {
        Ok(OriginHealth { identity: None })
    }
    fn local(&self) -> Option<&dyn LocalAccess> {
        None
    }
}

/// Parses bytes as a local file and from an origin, which must agree.
pub(crate) fn parse(name: &str, bytes: &[u8]) -> Result<ParsedAudio, ParseError> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    let local = parse_file(&file, bytes.len() as u64);
    let origin = Counting::new(Sparse::of(bytes));
    let remote = match origin.parse(name) {
        Ok(parsed) => Ok(parsed),
        Err(ParseFailure::Unparsable(error)) => Err(error),
        Err(ParseFailure::Origin(error)) => panic!("{error}"),
    };
    match (&local, &remote) {
        (Ok(local), Ok(remote)) => {
            assert_eq!((local.format, &local.audio), (remote.format, &remote.audio), "{name}");
            assert_eq!(remote.bytes_read, origin.asked(), "{name}");
        }
        (Err(local), Err(remote)) => assert_eq!(local.to_string(), remote.to_string(), "{name}"),
        other => panic!("{name}: {other:?}"),
    }
    remote
}

/// Reads a file of `tests/data`.
pub(crate) fn sample(name: &str) -> Vec<u8> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name);
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// A Monkey's Audio file of version 3.99 with 22,050 samples, as far as its header goes.
pub(crate) fn monkey() -> Vec<u8> {
    let mut out = b"MAC ".to_vec();
    out.extend(3990u16.to_le_bytes());
    out.extend([0; 2]);
    for n in [52u32, 24, 4, 0, 500, 0, 0] {
        out.extend(n.to_le_bytes());
    }
    out.extend([7; 16]);
    out.extend(2000u16.to_le_bytes());
    out.extend(0u16.to_le_bytes());
    for n in [73_728u32, 22_050, 1] {
        out.extend(n.to_le_bytes());
    }
    out.extend(16u16.to_le_bytes());
    out.extend(2u16.to_le_bytes());
    out.extend(44_100u32.to_le_bytes());
    out.extend([0; 4]);
    out.extend([0x5a; 500]);
    out
}

/// A Musepack file of stream version 7 with 20 frames, as far as its header goes.
pub(crate) fn musepack7() -> Vec<u8> {
    let mut out = b"MP+\x07".to_vec();
    out.extend(20u32.to_le_bytes());
    out.extend(0x1d00_0000u32.to_le_bytes());
    out.extend(16_384u16.to_le_bytes());
    out.extend((-612i16).to_le_bytes());
    out.extend(0u16.to_le_bytes());
    out.extend(250i16.to_le_bytes());
    out.extend((1u32 << 31 | 576 << 20).to_le_bytes());
    out.push(116);
    out.extend([0x5a; 3000]);
    out
}

/// A DSF file of half a second of DSD64 in stereo, with `tag` at its end.
pub(crate) fn dsf(tag: &[u8]) -> Vec<u8> {
    let samples = 2_822_400u64 / 2;
    let audio = vec![0x69; 4096 * 2 * 44];
    let mut out = b"DSD ".to_vec();
    out.extend(28u64.to_le_bytes());
    let tag_at = 92 + audio.len() as u64;
    out.extend((tag_at + tag.len() as u64).to_le_bytes());
    out.extend(if tag.is_empty() { 0 } else { tag_at }.to_le_bytes());
    out.extend(b"fmt ");
    out.extend(52u64.to_le_bytes());
    for n in [1u32, 0, 2, 2, 2_822_400, 1] {
        out.extend(n.to_le_bytes());
    }
    out.extend(samples.to_le_bytes());
    out.extend(4096u32.to_le_bytes());
    out.extend([0; 4]);
    out.extend(b"data");
    out.extend((12 + audio.len() as u64).to_le_bytes());
    out.extend(audio);
    out.extend(tag);
    out
}

/// The values that [`full_tag`] holds, by key.
pub(crate) const VALUES: &[(ItemKey, &[&str])] = &[
    (ItemKey::TrackTitle, &["Träume – 夢"]),
    (ItemKey::TrackArtist, &["Ann", "Bob"]),
    (ItemKey::AlbumTitle, &["Das Album"]),
    (ItemKey::AlbumArtist, &["Die Band"]),
    (ItemKey::TrackNumber, &["3"]),
    (ItemKey::TrackTotal, &["12"]),
    (ItemKey::DiscNumber, &["1"]),
    (ItemKey::DiscTotal, &["2"]),
    (ItemKey::RecordingDate, &["1997-03-25"]),
    (ItemKey::Genre, &["Jazz", "Fusion"]),
    (ItemKey::Composer, &["Clara"]),
    (ItemKey::FlagCompilation, &["1"]),
    (ItemKey::TrackTitleSortOrder, &["Traume"]),
    (ItemKey::TrackArtistSortOrder, &["Ann, A."]),
    (ItemKey::AlbumTitleSortOrder, &["Album, Das"]),
    (ItemKey::AlbumArtistSortOrder, &["Band, Die"]),
    (ItemKey::ComposerSortOrder, &["C., Clara"]),
    (ItemKey::Comment, &["A comment"]),
    (ItemKey::MusicBrainzRecordingId, &["b1a9c0e9-d987-4042-ae91-78d6a3267d69"]),
    (ItemKey::MusicBrainzTrackId, &["0c7ee6b8-5c5b-4ea9-9d4d-7b9d1a6f1a11"]),
    (ItemKey::MusicBrainzReleaseId, &["1c7ee6b8-5c5b-4ea9-9d4d-7b9d1a6f1a12"]),
    (ItemKey::MusicBrainzReleaseGroupId, &["2c7ee6b8-5c5b-4ea9-9d4d-7b9d1a6f1a13"]),
    (ItemKey::MusicBrainzArtistId, &["3c7ee6b8-5c5b-4ea9-9d4d-7b9d1a6f1a14"]),
    (ItemKey::MusicBrainzReleaseArtistId, &["4c7ee6b8-5c5b-4ea9-9d4d-7b9d1a6f1a15"]),
    (ItemKey::ReplayGainTrackGain, &["-7.23 dB"]),
    (ItemKey::ReplayGainTrackPeak, &["0.988553"]),
    (ItemKey::ReplayGainAlbumGain, &["-6.50 dB"]),
    (ItemKey::ReplayGainAlbumPeak, &["1.000000"]),
];

/// A tag with a value for every field, and a picture.
pub(crate) fn full_tag(kind: TagType) -> Tag {
    let mut tag = Tag::new(kind);
    for (key, values) in VALUES {
        for value in *values {
            tag.push(TagItem::new(*key, ItemValue::Text((*value).to_owned())));
        }
    }
    tag.push_picture(cover());
    tag
}

/// A picture's bytes: no picture, but with the marks of one, and with what unsynchronisation changes.
pub(crate) fn cover_bytes() -> Vec<u8> {
    let mut bytes = vec![0xff, 0xd8, 0xff, 0xe0, 0xff, 0x00, 0xff, 0xff];
    bytes.extend((0..3000u32).map(|i| (i * 7 % 251) as u8));
    bytes
}

fn cover() -> Picture {
    Picture::unchecked(cover_bytes())
        .pic_type(PictureType::CoverFront)
        .mime_type(MimeType::Jpeg)
        .description("Vorn")
        .build()
}

/// Writes a tag into a file.
pub(crate) fn tagged(bytes: &[u8], tag: &Tag) -> Vec<u8> {
    let mut file = Cursor::new(bytes.to_vec());
    tag.save_to(&mut file, WriteOptions::default()).unwrap();
    file.into_inner()
}

/// Writes a full tag into a file, with the fields that lofty has no key for in that kind of tag.
pub(crate) fn fully_tagged(bytes: &[u8], kind: TagType) -> Vec<u8> {
    let tag = full_tag(kind);
    let mut file = Cursor::new(bytes.to_vec());
    match kind {
        TagType::VorbisComments => {
            let mut tag = VorbisComments::from(tag);
            tag.push("COMPOSERSORT".to_owned(), "C., Clara".to_owned());
            tag.save_to(&mut file, WriteOptions::default()).unwrap();
        }
        TagType::Ape => {
            let mut tag = ApeTag::from(tag);
            for (key, value) in [
                ("COMPOSERSORT", "C., Clara"),
                ("MUSICBRAINZ_RELEASETRACKID", "0c7ee6b8-5c5b-4ea9-9d4d-7b9d1a6f1a11"),
            ] {
                tag.insert(ApeItem::new(key.to_owned(), ItemValue::Text(value.to_owned())).unwrap());
            }
            tag.save_to(&mut file, WriteOptions::default()).unwrap();
        }
        _ => tag.save_to(&mut file, WriteOptions::default()).unwrap(),
    }
    file.into_inner()
}

/// Returns a tag's bytes.
pub(crate) fn dumped(tag: &Tag) -> Vec<u8> {
    let mut out = Vec::new();
    match tag.tag_type() {
        // lofty drops pictures of a general tag that it writes as APE.
        TagType::Ape => ApeTag::from(tag.clone()).dump_to(&mut out, WriteOptions::default()).unwrap(),
        _ => tag.dump_to(&mut out, WriteOptions::default()).unwrap(),
    }
    out
}

/// The files of every format, without tags, by the name that users would give them.
pub(crate) fn plain_files() -> Vec<(&'static str, Vec<u8>)> {
    let mut files: Vec<_> = [
        ("a.flac", "tone.flac"),
        ("vbr.mp3", "vbr.mp3"),
        ("cbr.mp3", "cbr.mp3"),
        ("a.mp2", "tone.mp2"),
        ("a.m4a", "tone.m4a"),
        ("alac.m4a", "alac.m4a"),
        ("a.aac", "tone.aac"),
        ("a.ogg", "tone.ogg"),
        ("a.opus", "tone.opus"),
        ("flac.oga", "flac.oga"),
        ("a.spx", "tone.spx"),
        ("a.wav", "tone.wav"),
        ("rf64.wav", "rf64.wav"),
        ("a.aiff", "tone.aiff"),
        ("a.aifc", "tone.aifc"),
        ("a.wv", "tone.wv"),
        ("six.wv", "six.wv"),
        ("odd-rate.wv", "odd-rate.wv"),
        ("dsd.wv", "dsd.wv"),
        ("sv8.mpc", "sv8.mpc"),
    ]
    .into_iter()
    .map(|(name, file)| (name, sample(file)))
    .collect();
    files.push(("a.ape", monkey()));
    files.push(("sv7.mpc", musepack7()));
    files.push(("a.dsf", dsf(b"")));
    files
}
