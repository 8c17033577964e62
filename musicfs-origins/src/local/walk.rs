//! Walking a folder of this machine.
//!
//! Depth first, names in the order of their bytes: first the files of a folder, then its folders one after the
//! other. The order is fixed, so that a walk can be resumed ([`Cursor`]). Each folder is opened relative to the
//! one above it, files are looked at relative to their folder, and folders are known by what `getdents` says, so
//! that a walk costs one `stat` per file and one open per folder.
//!
//! The walk runs where blocking is allowed and hands pages to a bounded channel; when the receiver goes, it stops.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use musicfs_core::{
    Clock, MonoTime, OriginEntry, OriginError, OriginErrorKind, OriginPath, ScanPage, ScanRequest,
    UnlistedFolder,
};
use rustix::fs::{AtFlags, FileType, RawDir, Stat};
use rustix::io::Errno;
use tokio::sync::mpsc;

use super::Place;
use super::cursor::{Cursor, Position};
use super::open::{self, OpenError, Want};

/// Entries after which a page is handed over: enough for a batch of writes, few enough to hold.
const PAGE_ENTRIES: usize = 1000;
/// Longest walking without handing over what was found, so that first results of a slow disk come soon.
const PAGE_TIME: Duration = Duration::from_millis(100);
/// How many files are looked at between two looks at the clock.
const CHECK_EVERY: usize = 64;
/// Buffer for directory entries: a folder of a usual size in one system call.
const DIR_BUFFER: usize = 32 * 1024;

/// Page or error, as the stream gives it.
pub(super) type Sent = Result<ScanPage, OriginError>;

/// Why a walk ends early.
enum Stop {
    /// Nobody listens any more.
    Dropped,
    /// It failed as a whole.
    Failed(OriginError),
}

/// Walks what is asked for and sends it.
pub(super) fn walk(place: &Place, request: &ScanRequest, tx: &mpsc::Sender<Sent>) {
    let mut walker = Walker {
        place,
        tx,
        page: ScanPage::default(),
        at: None,
        resume: None,
        sent_at: place.clock.now(),
        clock: Arc::clone(&place.clock),
        buffer: vec![MaybeUninit::uninit(); DIR_BUFFER],
    };
    let walked = walker.run(request).and_then(|()| {
        // Unmounted on the way, the rest would have been an empty folder.
        place.check_mounted().map_err(|error| Stop::Failed(place.error(&request.under, error)))
    });
    match walked {
        Ok(()) => {
            walker.page.complete = true;
            walker.page.cursor = walker.at.as_ref().map(Cursor::to_text);
            // A receiver that went away needs no last page.
            let _ = tx.blocking_send(Ok(walker.page));
        }
        Err(Stop::Dropped) => {}
        Err(Stop::Failed(error)) => {
            let _ = tx.blocking_send(Err(error));
        }
    }
}

struct Walker<'a> {
    place: &'a Place,
    tx: &'a mpsc::Sender<Sent>,
    page: ScanPage,
    /// Up to where everything was listed.
    at: Option<Cursor>,
    resume: Option<Cursor>,
    sent_at: MonoTime,
    clock: Arc<dyn Clock>,
    buffer: Vec<MaybeUninit<u8>>,
}

/// A folder that the walk is in.
struct Frame {
    fd: OwnedFd,
    path: OriginPath,
    /// Device and inode, by which a link back to a folder we are in is known.
    id: (u64, u64),
    /// Folders in it that are still to come, the next one last.
    folders: Vec<Folder>,
}

struct Folder {
    name: Vec<u8>,
    via: Via,
}

/// How a folder is reached from the one above it.
#[derive(Clone, Copy)]
enum Via {
    Entry,
    Link,
}

/// An entry of a folder as `getdents` gives it.
struct Found {
    name: Vec<u8>,
    kind: FileType,
}

/// What an entry turns out to be.
enum Sorted {
    File(Stat),
    Folder(Via),
    /// Nothing that is listed: gone, special, or a link to nothing of ours.
    Nothing,
}

impl Walker<'_> {
    fn run(&mut self, request: &ScanRequest) -> Result<(), Stop> {
        let failed = |error| Stop::Failed(self.place.error(&request.under, error));
        if let Some(text) = &request.resume {
            let cursor = Cursor::parse(text).filter(|c| c.folder.is_within(&request.under));
            let invalid =
                || Stop::Failed(OriginError::new(&self.place.id, &request.under, OriginErrorKind::Invalid));
            self.resume = Some(cursor.ok_or_else(invalid)?);
        }
        self.place.check_mounted().map_err(failed)?;
        let root = open::open_root(&self.place.root).map_err(failed)?;
        if !request.under.is_root() {
            let stat = open::look(root.as_fd(), &self.place.root, &request.under).map_err(failed)?;
            if open::is_file(&stat) {
                self.entry(request.under.clone(), &stat);
                return Ok(());
            }
            if !open::is_folder(&stat) {
                return Err(failed(OpenError::NotAFile));
            }
        }
        let fd = open::open_beneath(root.as_fd(), &self.place.root, &request.under, Want::Listing)
            .map_err(failed)?;
        let id = id_of(&fd).map_err(|e| failed(e.into()))?;
        // A top that cannot be listed is a failure; any other folder is only named as unlisted.
        let top = self.folder(&root, fd, request.under.clone(), id)?;
        let top = top.map_err(|e| Stop::Failed(self.place.error(&request.under, e)))?;
        let mut frames = vec![top];
        while let Some(frame) = frames.last_mut() {
            let Some(next) = frame.folders.pop() else {
                frames.pop();
                continue;
            };
            let Ok(path) = frame.path.join(&next.name) else { continue };
            let opened = match next.via {
                Via::Link => open::open_beneath(root.as_fd(), &self.place.root, &path, Want::Listing),
                Via::Entry => open::open_folder(frame.fd.as_fd(), &next.name).map_err(OpenError::from),
            };
            let opened = opened.and_then(|fd| Ok((id_of(&fd)?, fd)));
            let (id, fd) = match opened {
                Ok(opened) => opened,
                // It went, or became something else, while we walked.
                Err(error) if error.is_nothing() => continue,
                Err(error) => {
                    self.unlisted(path, error);
                    continue;
                }
            };
            if frames.iter().any(|above| above.id == id) {
                continue;
            }
            match self.folder(&root, fd, path.clone(), id)? {
                Ok(frame) => frames.push(frame),
                Err(error) => self.unlisted(path, error),
            }
        }
        Ok(())
    }

    /// Lists the files of a folder and returns the folder with the folders in it.
    fn folder(
        &mut self,
        root: &OwnedFd,
        fd: OwnedFd,
        path: OriginPath,
        id: (u64, u64),
    ) -> Result<Result<Frame, OpenError>, Stop> {
        self.breathe()?;
        let found = match self.entries(&fd) {
            Ok(found) => found,
            Err(errno) => return Ok(Err(errno.into())),
        };
        let resume = self.resume.take();
        let position = resume.as_ref().map_or(Position::Ahead, |cursor| cursor.position(&path));
        let mut folders = Vec::new();
        for (n, entry) in found.iter().enumerate() {
            if n % CHECK_EVERY == CHECK_EVERY - 1 {
                self.breathe()?;
            }
            let Ok(here) = path.join(&entry.name) else { continue };
            let listed = match position {
                Position::Above(_) => true,
                Position::Here => {
                    resume.as_ref().and_then(|c| c.file.as_ref()).is_none_or(|last| entry.name <= *last)
                }
                Position::Ahead => false,
            };
            if listed && entry.kind == FileType::RegularFile {
                continue;
            }
            match self.sort(root, &fd, &here, entry) {
                Ok(Sorted::File(_)) if listed => {}
                Ok(Sorted::File(stat)) => {
                    self.entry(here, &stat);
                    self.at = Some(Cursor { folder: path.clone(), file: Some(entry.name.clone()) });
                }
                Ok(Sorted::Folder(via)) => folders.push(Folder { name: entry.name.clone(), via }),
                Ok(Sorted::Nothing) => {}
                // Nothing can be said of a link that cannot be followed; of the folder's other entries, it can.
                Err(error) if entry.kind == FileType::Symlink => self.unlisted(here, error),
                Err(error) => return Ok(Err(error)),
            }
        }
        if let Position::Above(next) = position {
            folders.retain(|folder| folder.name.as_slice() >= next);
        } else {
            self.at = Some(Cursor { folder: path.clone(), file: None });
        }
        // The cursor counts until its own folder, or the first one after it, has been seen.
        if matches!(position, Position::Above(_)) {
            self.resume = resume;
        }
        folders.reverse();
        Ok(Ok(Frame { fd, path, id, folders }))
    }

    /// Reads a folder's entries, sorted by name.
    fn entries(&mut self, fd: &OwnedFd) -> Result<Vec<Found>, Errno> {
        let mut found = Vec::new();
        let mut dir = RawDir::new(fd, &mut self.buffer);
        while let Some(entry) = dir.next() {
            let entry = match entry {
                Err(Errno::INTR) => continue,
                other => other?,
            };
            let name = entry.file_name().to_bytes();
            let kind = entry.file_type();
            let may_matter = matches!(
                kind,
                FileType::RegularFile | FileType::Directory | FileType::Symlink | FileType::Unknown
            );
            if may_matter && name != b"." && name != b".." {
                found.push(Found { name: name.to_vec(), kind });
            }
        }
        found.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }

    /// Finds out what an entry is.
    fn sort(
        &self,
        root: &OwnedFd,
        folder: &OwnedFd,
        path: &OriginPath,
        entry: &Found,
    ) -> Result<Sorted, OpenError> {
        if entry.kind == FileType::Directory {
            return Ok(Sorted::Folder(Via::Entry));
        }
        if entry.kind == FileType::Symlink {
            return self.link(root, path);
        }
        let stat = match rustix::fs::statat(folder, entry.name.as_slice(), AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(Sorted::Nothing),
            other => other?,
        };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Ok(Sorted::File(stat)),
            FileType::Directory => Ok(Sorted::Folder(Via::Entry)),
            FileType::Symlink => self.link(root, path),
            _ => Ok(Sorted::Nothing),
        }
    }

    /// Finds out what a link leads to.
    fn link(&self, root: &OwnedFd, path: &OriginPath) -> Result<Sorted, OpenError> {
        match open::look(root.as_fd(), &self.place.root, path) {
            Ok(stat) if open::is_file(&stat) => Ok(Sorted::File(stat)),
            Ok(stat) if open::is_folder(&stat) => Ok(Sorted::Folder(Via::Link)),
            Ok(_) => Ok(Sorted::Nothing),
            Err(error) if error.is_nothing() => Ok(Sorted::Nothing),
            Err(error) => Err(error),
        }
    }

    fn entry(&mut self, path: OriginPath, stat: &Stat) {
        self.page.entries.push(OriginEntry { path, version: open::version_of(stat) });
    }

    fn unlisted(&mut self, path: OriginPath, error: OpenError) {
        let error = self.place.error(&path, error);
        self.page.unlisted.push(UnlistedFolder { path, error });
    }

    /// Hands the page over when it is full or due, and notices when nobody wants it.
    fn breathe(&mut self) -> Result<(), Stop> {
        if self.tx.is_closed() {
            return Err(Stop::Dropped);
        }
        let found = self.page.entries.len() + self.page.unlisted.len();
        let now = self.clock.now();
        if found < PAGE_ENTRIES && (found == 0 || now.since(self.sent_at) < PAGE_TIME) {
            return Ok(());
        }
        let mut page = std::mem::take(&mut self.page);
        page.cursor = self.at.as_ref().map(Cursor::to_text);
        self.sent_at = now;
        self.tx.blocking_send(Ok(page)).map_err(|_| Stop::Dropped)
    }
}

fn id_of(fd: &OwnedFd) -> Result<(u64, u64), Errno> {
    let stat = rustix::fs::fstat(fd)?;
    Ok((stat.st_dev, stat.st_ino))
}
