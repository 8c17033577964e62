//! An origin in memory, stricter than any real one.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream;
use musicfs_core::{
    ByteRange, ChunkHash, FileVersion, LocalAccess, Origin, OriginCaps, OriginEntry, OriginError,
    OriginErrorKind, OriginHealth, OriginId, OriginPath, PartSink, ScanCursor, ScanPage, ScanRequest,
    ScanStream, UnixNanos, UnlistedFolder,
};
use parking_lot::Mutex;
use tokio::sync::watch;

/// Bytes of a part of a read that brings its bytes as they come.
const PART: usize = 64 << 10;

/// An origin in memory. Clones are the same origin.
///
/// It can do whatever an origin may do, on demand: list in small pages, end a listing early, fail it, leave out
/// folders, be down. It panics when its caller breaks the contract: when a read is longer than
/// [`OriginCaps::max_range`], or a scan goes on from a cursor that no listing of this origin gave.
#[derive(Clone, Debug)]
pub struct MemoryOrigin {
    id: OriginId,
    caps: OriginCaps,
    page_size: usize,
    state: Arc<Mutex<State>>,
    /// Bytes of each read that come before it hangs.
    comes: Arc<watch::Sender<u64>>,
}

#[derive(Debug)]
struct State {
    files: BTreeMap<OriginPath, (Bytes, FileVersion)>,
    unlisted: BTreeMap<OriginPath, OriginErrorKind>,
    ending: Ending,
    down: Option<OriginErrorKind>,
    identity: Option<String>,
    /// Seconds that have gone by on the origin's own clock: one with each change.
    ticks: i64,
}

/// How listings end.
#[derive(Clone, Copy, Debug)]
enum Ending {
    Complete,
    Cut { after: usize },
    Fails { after: usize, kind: OriginErrorKind },
}

impl MemoryOrigin {
    /// Makes an origin without files, with the capabilities of a local disk.
    pub fn new(id: impl Into<OriginId>) -> Self {
        let state = State {
            files: BTreeMap::new(),
            unlisted: BTreeMap::new(),
            ending: Ending::Complete,
            down: None,
            identity: Some("memory".to_owned()),
            ticks: 0,
        };
        let caps = OriginCaps::local().without_watching();
        let comes = Arc::new(watch::Sender::new(u64::MAX));
        Self { id: id.into(), caps, page_size: 100, state: Arc::new(Mutex::new(state)), comes }
    }

    /// Sets the capabilities. With strong versions, files have etags.
    pub fn with_caps(mut self, caps: OriginCaps) -> Self {
        self.caps = caps;
        self
    }

    /// Sets how many files a page of a listing has at the most.
    ///
    /// # Panics
    /// When that is none.
    pub fn with_page_size(mut self, files: usize) -> Self {
        assert!(files > 0, "a page must hold something");
        self.page_size = files;
        self
    }

    /// Adds or replaces a file and returns its version, which is a new one.
    pub fn put(&self, path: impl AsRef<[u8]>, bytes: impl Into<Bytes>) -> FileVersion {
        let mut state = self.state.lock();
        state.ticks += 1;
        let mtime = UnixNanos::from_parts(1_500_000_000 + state.ticks, 123_456_789);
        self.put_at(&mut state, path.as_ref(), bytes.into(), mtime)
    }

    /// As [`MemoryOrigin::put`], with a modification time of the caller's choice: the one that the file had hides
    /// a change of content, as some writers do.
    pub fn put_with_mtime(
        &self,
        path: impl AsRef<[u8]>,
        bytes: impl Into<Bytes>,
        mtime: UnixNanos,
    ) -> FileVersion {
        self.put_at(&mut self.state.lock(), path.as_ref(), bytes.into(), mtime)
    }

    fn put_at(&self, state: &mut State, path: &[u8], bytes: Bytes, mtime: UnixNanos) -> FileVersion {
        let path = parsed(path);
        assert!(!path.is_root(), "the root is no file");
        let etag = self.caps.strong_versions.then(|| ChunkHash::of(&bytes).to_string().into());
        let version = FileVersion { size: bytes.len() as u64, mtime: Some(mtime), etag };
        state.files.insert(path, (bytes, version.clone()));
        version
    }

    /// Removes a file; tells whether it was there.
    pub fn remove(&self, path: impl AsRef<[u8]>) -> bool {
        self.state.lock().files.remove(&parsed(path.as_ref())).is_some()
    }

    /// Moves a file, with its version.
    ///
    /// # Panics
    /// When there is no such file.
    pub fn rename(&self, from: impl AsRef<[u8]>, to: impl AsRef<[u8]>) {
        let mut state = self.state.lock();
        let file = state.files.remove(&parsed(from.as_ref())).expect("the file to move");
        state.files.insert(parsed(to.as_ref()), file);
    }

    /// Has each read that hands its bytes on as they come ([`Origin::read_parts`]) hang when it has brought so many, those
    /// under way included, until more are let through. Other reads are not held.
    pub fn hold_parts_after(&self, bytes: u64) {
        self.comes.send_replace(bytes);
    }

    /// Ends listings after this many pages, without an error and without saying that they are complete.
    pub fn cut_listings(&self, after: usize) {
        self.state.lock().ending = Ending::Cut { after };
    }

    /// Fails listings after this many pages.
    pub fn fail_listings(&self, after: usize, kind: OriginErrorKind) {
        self.state.lock().ending = Ending::Fails { after, kind };
    }

    /// Leaves a folder out of listings and names it as unlisted.
    pub fn unlist(&self, folder: impl AsRef<[u8]>, kind: OriginErrorKind) {
        self.state.lock().unlisted.insert(parsed(folder.as_ref()), kind);
    }

    /// Makes listings whole again.
    pub fn heal_listings(&self) {
        let mut state = self.state.lock();
        state.ending = Ending::Complete;
        state.unlisted.clear();
    }

    /// Makes every call fail.
    pub fn take_down(&self, kind: OriginErrorKind) {
        self.state.lock().down = Some(kind);
    }

    /// Ends what [`MemoryOrigin::take_down`] began.
    pub fn bring_up(&self) {
        self.state.lock().down = None;
    }

    /// Sets what [`Origin::health`] says of the storage's identity.
    pub fn set_identity(&self, identity: Option<&str>) {
        self.state.lock().identity = identity.map(str::to_owned);
    }

    fn error(&self, path: &OriginPath, kind: OriginErrorKind) -> OriginError {
        OriginError::new(&self.id, path, kind)
    }

    fn up(&self, state: &State, path: &OriginPath) -> Result<(), OriginError> {
        state.down.map_or(Ok(()), |kind| Err(self.error(path, kind)))
    }

    fn find<'s>(&self, state: &'s State, path: &OriginPath) -> Result<&'s (Bytes, FileVersion), OriginError> {
        self.up(state, path)?;
        state.files.get(path).ok_or_else(|| {
            let is_folder = path.is_root() || state.files.keys().any(|file| file.is_within(path));
            let kind = if is_folder { OriginErrorKind::Invalid } else { OriginErrorKind::NotFound };
            self.error(path, kind)
        })
    }

    /// Makes a whole listing as it is now, in pages.
    fn listing(&self, request: &ScanRequest) -> Vec<Result<ScanPage, OriginError>> {
        let state = self.state.lock();
        if let Err(error) = self.up(&state, &request.under) {
            return vec![Err(error)];
        }
        let under = &request.under;
        let closed = state.unlisted.iter().find(|(folder, _)| under.is_within(folder));
        if let Some((_, kind)) = closed {
            return vec![Err(self.error(under, *kind))];
        }
        let below = || state.files.iter().filter(|(path, _)| path.is_within(under));
        if !under.is_root() && below().next().is_none() {
            return vec![Err(self.error(under, OriginErrorKind::NotFound))];
        }
        let listed = |path: &OriginPath| !state.unlisted.keys().any(|folder| path.is_within(folder));
        let mut entries: Vec<OriginEntry> = below()
            .filter(|(path, _)| listed(path))
            .map(|(path, (_, version))| OriginEntry { path: path.clone(), version: version.clone() })
            .collect();
        // The files of one folder together, which the order of whole paths does not give.
        entries.sort_by_cached_key(|entry| (entry.path.parent(), entry.path.clone()));
        if let Some(cursor) = &request.resume {
            let last = read_cursor(cursor).expect("a cursor that a listing of this origin gave");
            entries.retain(|entry| (entry.path.parent(), &entry.path) > (last.parent(), &last));
        }
        let mut unlisted: Vec<UnlistedFolder> = state
            .unlisted
            .iter()
            .filter(|(folder, _)| folder.is_within(under))
            .map(|(folder, kind)| UnlistedFolder { path: folder.clone(), error: self.error(folder, *kind) })
            .collect();
        let mut pages: Vec<_> = entries
            .chunks(self.page_size)
            .map(|entries| ScanPage {
                entries: entries.to_vec(),
                unlisted: std::mem::take(&mut unlisted),
                cursor: entries.last().map(|entry| write_cursor(&entry.path)),
                complete: false,
            })
            .collect();
        if pages.is_empty() {
            pages.push(ScanPage { unlisted, ..ScanPage::default() });
        }
        let whole = pages.len();
        let mut results: Vec<_> = pages.into_iter().map(Ok).collect();
        match state.ending {
            Ending::Cut { after } => results.truncate(after),
            Ending::Fails { after, kind } => {
                results.truncate(after);
                results.push(Err(self.error(under, kind)));
            }
            Ending::Complete => {
                if let Some(Ok(last)) = results.get_mut(whole - 1) {
                    last.complete = true;
                }
            }
        }
        results
    }
}

fn parsed(path: &[u8]) -> OriginPath {
    OriginPath::new(path).expect("a path that an origin can have")
}

fn write_cursor(path: &OriginPath) -> ScanCursor {
    let hex: String = path.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    ScanCursor(format!("memory:{hex}").into())
}

fn read_cursor(cursor: &ScanCursor) -> Option<OriginPath> {
    let hex = cursor.0.strip_prefix("memory:")?.as_bytes();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    let bytes: Option<Vec<u8>> = hex.chunks(2).map(byte).collect();
    OriginPath::new(bytes?).ok()
}

#[async_trait]
impl Origin for MemoryOrigin {
    fn id(&self) -> &OriginId {
        &self.id
    }

    fn caps(&self) -> OriginCaps {
        self.caps.clone()
    }

    fn scan(&self, request: ScanRequest) -> ScanStream {
        let origin = self.clone();
        stream::once(async move { stream::iter(origin.listing(&request)) }).flatten().boxed()
    }

    async fn stat(&self, path: &OriginPath) -> Result<OriginEntry, OriginError> {
        let state = self.state.lock();
        let (_, version) = self.find(&state, path)?;
        Ok(OriginEntry { path: path.clone(), version: version.clone() })
    }

    async fn read(
        &self,
        path: &OriginPath,
        version: &FileVersion,
        range: ByteRange,
    ) -> Result<Bytes, OriginError> {
        assert!(range.len() <= self.caps.max_range, "{range} of {path} is longer than one read may be");
        let state = self.state.lock();
        let (bytes, now) = self.find(&state, path)?;
        if !now.is_same(version) {
            return Err(self.error(path, OriginErrorKind::Changed));
        }
        let range = range.clamp_to(now.size);
        Ok(bytes.slice(range.start() as usize..range.end() as usize))
    }

    async fn read_parts(
        &self,
        path: &OriginPath,
        version: &FileVersion,
        range: ByteRange,
        parts: &PartSink,
    ) -> Result<(), OriginError> {
        let mut rest = self.read(path, version, range).await?;
        let (mut comes, mut given) = (self.comes.subscribe(), 0);
        while !rest.is_empty() {
            let part = rest.split_to(rest.len().min(PART));
            given += part.len() as u64;
            // The sender is ours: it outlives the wait.
            let _ = comes.wait_for(|most| given <= *most).await;
            parts.push(part);
        }
        Ok(())
    }

    async fn health(&self) -> Result<OriginHealth, OriginError> {
        let state = self.state.lock();
        self.up(&state, &OriginPath::root())?;
        Ok(OriginHealth { identity: state.identity.clone() })
    }

    fn local(&self) -> Option<&dyn LocalAccess> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled() -> MemoryOrigin {
        let origin = MemoryOrigin::new("m").with_page_size(2);
        for file in ["a/1", "a/2", "a b/3", "c/4", "c/5"] {
            origin.put(file, file);
        }
        origin
    }

    async fn pages(origin: &MemoryOrigin) -> Vec<Result<ScanPage, OriginError>> {
        origin.scan(ScanRequest::all()).collect().await
    }

    #[tokio::test]
    async fn listing_that_is_cut_ends_without_being_complete() {
        let origin = filled();
        origin.cut_listings(2);
        let pages = pages(&origin).await;
        assert_eq!(pages.len(), 2);
        assert!(pages.iter().all(|page| page.as_ref().is_ok_and(|p| !p.complete)));
    }

    #[tokio::test]
    async fn listing_that_fails_yields_one_error_and_ends() {
        let origin = filled();
        origin.fail_listings(1, OriginErrorKind::Unavailable);
        let pages = pages(&origin).await;
        assert_eq!(pages.len(), 2);
        assert_eq!(pages[1].as_ref().unwrap_err().kind, OriginErrorKind::Unavailable);
    }

    #[tokio::test]
    async fn unlisted_folder_is_named_and_left_out() {
        let origin = filled();
        origin.unlist("a", OriginErrorKind::Denied);
        let pages: Vec<_> = pages(&origin).await.into_iter().map(Result::unwrap).collect();
        let files: Vec<_> = pages.iter().flat_map(|p| &p.entries).map(|e| e.path.to_string()).collect();
        assert_eq!(files, ["a b/3", "c/4", "c/5"]);
        assert_eq!(pages[0].unlisted[0].path, parsed(b"a"));
        assert!(pages.last().unwrap().complete);
        origin.heal_listings();
        assert_eq!(origin.listing(&ScanRequest::all()).len(), 3);
    }

    #[tokio::test]
    async fn changed_file_has_a_new_version_unless_its_time_is_forged() {
        let origin = MemoryOrigin::new("m");
        let (path, whole) = (parsed(b"a"), ByteRange::at(0, 9));
        let old = origin.put("a", "one");
        origin.put("a", "two");
        assert_eq!(origin.read(&path, &old, whole).await.unwrap_err().kind, OriginErrorKind::Changed);
        origin.put_with_mtime("a", "six", old.mtime.unwrap());
        assert_eq!(&origin.read(&path, &old, whole).await.unwrap()[..], b"six");
        assert!(origin.remove("a"));
        assert_eq!(origin.stat(&path).await.unwrap_err().kind, OriginErrorKind::NotFound);
    }

    #[tokio::test]
    async fn origin_that_is_down_fails_every_call_until_it_is_up() {
        let origin = filled();
        origin.take_down(OriginErrorKind::Dns);
        assert_eq!(origin.health().await.unwrap_err().kind, OriginErrorKind::Dns);
        assert_eq!(origin.stat(&parsed(b"a/1")).await.unwrap_err().kind, OriginErrorKind::Dns);
        assert!(pages(&origin).await[0].is_err());
        origin.bring_up();
        assert!(origin.health().await.is_ok());
    }

    #[tokio::test]
    #[should_panic(expected = "longer than one read may be")]
    async fn read_longer_than_allowed_panics() {
        let origin = MemoryOrigin::new("m").with_caps(OriginCaps::remote().with_max_range(4));
        let version = origin.put("a", "0123456789");
        let _ = origin.read(&parsed(b"a"), &version, ByteRange::at(0, 5)).await;
    }
}
