//! Music made on the spot: real, playable, tagged files and whole libraries of them.
//!
//! * [`Track`] is one file to be: a [`Sample`] (a second of a tone in some format, embedded in this crate), the
//!   tags it carries, a cover. [`write_track`] puts it on disk.
//! * [`demo_library`] is a small library with one of everything, for a first look and for end-to-end tests.
//! * [`bench_library`] and [`bench_large`] make many small and few large files, fast.
//!
//! The same calls always write the same bytes; only a track's own [`Track::mtime`] sets its modification time.
//! Nothing here reads tags: what a [`Track`] was given ([`Track::tags`]) is what a parser under test must find.

mod bench;
mod demo;
mod dsf;
mod flac;
mod noise;
mod ogg_flac;
mod sample;
mod tagging;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use musicfs_core::{AudioMeta, UnixNanos};

pub use bench::{bench_large, bench_library, bench_library_of};
pub use demo::{Written, demo_library, library_of_every_format};
pub use flac::noise_flac;
pub use noise::{noise_track, random_bytes};
pub use sample::{Cover, Sample};

/// Why a file could not be made.
#[derive(Debug, thiserror::Error)]
pub enum TrackError {
    /// The disk refused.
    #[error("cannot write {}", path.display())]
    Io {
        /// What was being written.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// The tags cannot be coded for the format.
    #[error("cannot tag a {sample:?} sample: {reason}")]
    Tags {
        /// The sample that was to be tagged.
        sample: Sample,
        /// What is wrong.
        reason: String,
    },
}

impl TrackError {
    fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }
}

/// A music file to be: a sample, what its tags say, its cover, its time.
#[derive(Clone, Debug)]
pub struct Track {
    sample: Sample,
    tags: AudioMeta,
    cover: Option<Cover>,
    mtime: Option<UnixNanos>,
}

impl Track {
    /// Begins a track without tags.
    pub fn new(sample: Sample) -> Self {
        Self { sample, tags: AudioMeta::default(), cover: None, mtime: None }
    }

    /// Begins a track with the tags in `tags`; what it says of the stream (duration, codec, …) counts for nothing.
    pub fn tagged(sample: Sample, tags: AudioMeta) -> Self {
        Self { tags, ..Self::new(sample) }
    }

    /// Sets the title.
    #[must_use]
    pub fn title(mut self, title: impl Into<String>) -> Self {
        self.tags.title = Some(title.into());
        self
    }

    /// Adds an artist.
    #[must_use]
    pub fn artist(mut self, artist: impl Into<String>) -> Self {
        self.tags.artists.push(artist.into());
        self
    }

    /// Sets the album.
    #[must_use]
    pub fn album(mut self, album: impl Into<String>) -> Self {
        self.tags.album = Some(album.into());
        self
    }

    /// Adds an album artist.
    #[must_use]
    pub fn album_artist(mut self, artist: impl Into<String>) -> Self {
        self.tags.album_artists.push(artist.into());
        self
    }

    /// Sets the track number and the number of tracks.
    #[must_use]
    pub fn track(mut self, number: u32, total: u32) -> Self {
        self.tags.track = Some(number);
        self.tags.track_total = Some(total);
        self
    }

    /// Sets the disc number and the number of discs.
    #[must_use]
    pub fn disc(mut self, number: u32, total: u32) -> Self {
        self.tags.disc = Some(number);
        self.tags.disc_total = Some(total);
        self
    }

    /// Sets the date.
    #[must_use]
    pub fn date(mut self, date: impl Into<String>) -> Self {
        self.tags.date = Some(date.into());
        self
    }

    /// Adds a genre.
    #[must_use]
    pub fn genre(mut self, genre: impl Into<String>) -> Self {
        self.tags.genres.push(genre.into());
        self
    }

    /// Adds a composer.
    #[must_use]
    pub fn composer(mut self, composer: impl Into<String>) -> Self {
        self.tags.composers.push(composer.into());
        self
    }

    /// Marks the track as part of a compilation.
    #[must_use]
    pub fn compilation(mut self) -> Self {
        self.tags.compilation = true;
        self
    }

    /// Sets the comment.
    #[must_use]
    pub fn comment(mut self, comment: impl Into<String>) -> Self {
        self.tags.comment = Some(comment.into());
        self
    }

    /// Embeds a front cover.
    #[must_use]
    pub fn cover(mut self, cover: Cover) -> Self {
        self.cover = Some(cover);
        self
    }

    /// Sets the modification time that the file gets.
    #[must_use]
    pub fn mtime(mut self, mtime: UnixNanos) -> Self {
        self.mtime = Some(mtime);
        self
    }

    /// Returns the sample.
    pub fn sample(&self) -> Sample {
        self.sample
    }

    /// Returns the tags that the file carries.
    pub fn tags(&self) -> &AudioMeta {
        &self.tags
    }

    /// Returns the file's bytes.
    ///
    /// # Errors
    /// [`TrackError::Tags`] when the format cannot hold the tags.
    pub fn to_bytes(&self) -> Result<Vec<u8>, TrackError> {
        tagging::tagged(self.sample, &self.tags, self.cover)
    }
}

/// Writes `track` to `path` inside `dir`, makes the folders on the way, and returns where it is.
///
/// # Errors
/// [`TrackError`] when the tags do not fit the format or the disk refuses.
pub fn write_track(dir: &Path, path: impl AsRef<Path>, track: &Track) -> Result<PathBuf, TrackError> {
    let path = write_file(dir, path.as_ref(), &track.to_bytes()?)?;
    if let Some(mtime) = track.mtime {
        set_mtime(&path, mtime).map_err(TrackError::io(&path))?;
    }
    Ok(path)
}

/// Writes `bytes` to `path` inside `dir`, makes the folders on the way, and returns where it is.
fn write_file(dir: &Path, path: &Path, bytes: &[u8]) -> Result<PathBuf, TrackError> {
    let path = dir.join(path);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(TrackError::io(parent))?;
    }
    fs::write(&path, bytes).map_err(TrackError::io(&path))?;
    Ok(path)
}

fn set_mtime(path: &Path, mtime: UnixNanos) -> io::Result<()> {
    let (secs, nanos) = mtime.parts();
    let whole = Duration::from_secs(secs.unsigned_abs());
    let time = if secs < 0 { SystemTime::UNIX_EPOCH - whole } else { SystemTime::UNIX_EPOCH + whole };
    fs::File::options().write(true).open(path)?.set_modified(time + Duration::from_nanos(nanos.into()))
}
