//! Telling the kernel what changed.
//!
//! What the kernel caches it may keep for an hour and more, since every change is announced: a task waits for the
//! catalogue's revisions and wakes one thread, which reads the changes and sends the notifications.
//!
//! # Invariants
//! * Notifications are sent by that thread only, never by one that answers requests: the kernel may hold a lock
//!   that a request waits for, and a notification waits for the lock.
//! * Data of an inode is not invalidated while a read of it waits for bytes: the kernel holds its pages locked and
//!   the notification would wait for them. Its attributes are invalidated, and the next open drops its pages, as
//!   its version is forgotten.
//! * Only what the kernel may know is announced ([`KernelView`]); a directory once for all changes read together.
//!
//! When changes are lost (the catalogue keeps only so many), all names are invalidated at once where the kernel
//! can do that (Linux 6.16), no page is kept over an open, and the root is invalidated. On an older kernel other
//! names and attributes may then be out of date until their time is over.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Weak};
use std::time::Duration;

use fuser::{INodeNo, Notifier};
use futures::future::select;
use musicfs_core::{Change, Changes, Clock, Ino, MetaDb, MetaError, Name, Node, ROOT_INODE, Revision};
use tokio::sync::{oneshot, watch};

use crate::adapter::Shared;
use crate::error::chain;
use crate::kernel_view::KernelView;
use crate::numbers::Told;
use crate::os::THREAD_NAME;
use crate::stats::count;
use crate::{Backends, MusicFs};

/// Changes read at once: enough to announce a directory once for a whole batch of a scan.
const CHANGES: usize = 8192;
/// Number of the kernel's notification that makes all cached names be looked up again.
const NOTIFY_INC_EPOCH: i32 = 8;

/// Work for the thread.
enum Wake {
    /// The catalogue has a new revision.
    Changed,
    /// Somebody waits until all changes up to now are announced.
    CatchUp(oneshot::Sender<()>),
    /// The mount has ended.
    Stop,
}

/// Wakes the thread.
#[derive(Clone)]
pub(crate) struct Invalidator {
    wake: Sender<Wake>,
    announced: Announced,
}

/// The revision up to which all is announced.
#[derive(Clone)]
pub(crate) struct Announced(Arc<AtomicU64>);

/// The thread's end of [`Invalidator`], until it is started.
pub(crate) struct Wakes {
    wakes: Receiver<Wake>,
    announced: Announced,
}

impl Invalidator {
    /// Makes one; what came up to `since` the kernel cannot have seen otherwise.
    pub(crate) fn new(since: Revision) -> (Self, Wakes) {
        let (wake, wakes) = channel();
        let announced = Announced(Arc::new(AtomicU64::new(since.0)));
        (Self { wake, announced: announced.clone() }, Wakes { wakes, announced })
    }

    /// Tells whether changes up to a revision are not all announced yet.
    pub(crate) fn is_behind(&self, revision: Revision) -> bool {
        self.announced.0.load(Ordering::SeqCst) < revision.0
    }

    /// Waits until all changes up to now are announced, within a limit.
    pub(crate) async fn catch_up(&self, clock: &impl Clock, limit: Duration) {
        let (done, announced) = oneshot::channel();
        if self.wake.send(Wake::CatchUp(done)).is_ok() {
            select(announced, clock.sleep_until(clock.now().plus(limit))).await;
        }
    }

    /// Ends the thread.
    pub(crate) fn stop(&self) {
        // The thread may have ended already.
        let _ = self.wake.send(Wake::Stop);
    }

    /// Waits for new revisions and wakes the thread, until the mount or the catalogue ends.
    pub(crate) async fn watch(self, mut revisions: watch::Receiver<Revision>) {
        while revisions.changed().await.is_ok() {
            if self.wake.send(Wake::Changed).is_err() {
                return;
            }
        }
    }
}

/// One thing to tell the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Notice {
    /// Look this name up again.
    Entry { parent: Ino, name: Name },
    /// This entry is gone.
    Removed { parent: Ino, name: Name, ino: Ino },
    /// Ask for this inode's attributes again, and read its content again.
    Inode(Ino),
    /// Ask for its attributes again.
    Attributes(Ino),
}

/// Takes notices to the kernel.
trait Sink {
    fn send(&mut self, notice: &Notice) -> io::Result<()>;
    /// Makes everything be looked up again, as far as the kernel can.
    fn everything(&mut self) -> io::Result<()>;
}

/// The kernel.
pub(crate) struct Kernel {
    notifier: Notifier,
    /// The device, for the notification that the library does not know.
    device: File,
}

impl Kernel {
    pub(crate) fn new(notifier: Notifier, device: File) -> Self {
        Self { notifier, device }
    }
}

fn number(ino: Ino) -> INodeNo {
    INodeNo(ino.raw())
}

impl Sink for Kernel {
    fn send(&mut self, notice: &Notice) -> io::Result<()> {
        match notice {
            Notice::Entry { parent, name } => {
                self.notifier.inval_entry(number(*parent), OsStr::from_bytes(name.as_bytes()))
            }
            Notice::Removed { parent, name, ino } => {
                let name = OsStr::from_bytes(name.as_bytes());
                match self.notifier.delete(number(*parent), number(*ino), name) {
                    // A directory of which the kernel still knows entries is not removed, but forgotten.
                    Err(e) if e.raw_os_error() == Some(nix::libc::ENOTEMPTY) => {
                        self.notifier.inval_entry(number(*parent), name)
                    }
                    sent => sent,
                }
            }
            Notice::Inode(ino) => self.notifier.inval_inode(number(*ino), 0, 0),
            Notice::Attributes(ino) => self.notifier.inval_inode(number(*ino), -1, 0),
        }
    }

    fn everything(&mut self) -> io::Result<()> {
        // struct fuse_out_header { len: u32, error: i32, unique: u64 }: a notification without a body.
        let mut message = [0; 16];
        message[..4].copy_from_slice(&16u32.to_ne_bytes());
        message[4..8].copy_from_slice(&NOTIFY_INC_EPOCH.to_ne_bytes());
        // An older kernel answers EINVAL, and does without.
        let _ = self.device.write_all(&message);
        self.notifier.inval_inode(number(ROOT_INODE), 0, 0)
    }
}

/// Decides what to tell the kernel of some changes.
fn notices(changes: &[Change], kernel: &KernelView) -> Vec<Notice> {
    let mut notices = Vec::new();
    // A file that moved is there again; its inode must not be taken for deleted.
    let added: HashSet<Ino> = changes.iter().filter_map(added_ino).collect();
    let mut listed = HashSet::new();
    let mut directories = Vec::new();
    for change in changes {
        match change {
            Change::EntryAdded { parent, name, .. } | Change::EntryRemoved { parent, name, .. } => {
                if kernel.knows_entry(*parent, name.as_bytes()) {
                    notices.push(match change {
                        Change::EntryRemoved { ino, .. } if !added.contains(ino) => {
                            Notice::Removed { parent: *parent, name: name.clone(), ino: *ino }
                        }
                        _ => Notice::Entry { parent: *parent, name: name.clone() },
                    });
                }
                if kernel.knows_inode(*parent) && listed.insert(*parent) {
                    directories.push(Notice::Inode(*parent));
                }
            }
            Change::FileChanged { id, content: true } if kernel.knows_inode(id.ino()) => {
                notices.push(Notice::Inode(id.ino()));
            }
            Change::FileForgotten { id } if kernel.knows_inode(id.ino()) => {
                notices.push(Notice::Attributes(id.ino()));
            }
            Change::FileChanged { .. } | Change::FileForgotten { .. } => {}
        }
    }
    notices.extend(directories);
    notices
}

/// Puts a notice in terms of the numbers by which the kernel knows files. One that has several, as it was replaced while
/// it was open, is looked up again; what is open under its other numbers stays as it is, but what the kernel reads by
/// itself may have been rewritten in place.
fn by_number<B: Backends>(fs: &MusicFs<B>, notice: Notice) -> Result<Vec<Notice>, MetaError> {
    let numbers = &fs.files.numbers;
    Ok(match notice {
        Notice::Inode(ino) => {
            let mut number = numbers.number(ino);
            if numbers.told(number).is_some()
                && let Some(node) = fs.backends.meta().node(ino)?
            {
                number = numbers.number_for(ino, Told::from(&node));
            }
            let beside = numbers.backed_beside(number).into_iter().map(Notice::Attributes);
            let mut notices: Vec<Notice> = beside.collect();
            if numbers.has_several(ino)
                && let Some(Node { parent, name: Some(name), .. }) = fs.backends.meta().node(ino)?
            {
                notices.push(Notice::Entry { parent, name });
            }
            // A read that waits holds pages locked, for which this thread would wait.
            let reading = fs.files.is_reading(number);
            notices.push(if reading { Notice::Attributes(number) } else { Notice::Inode(number) });
            notices
        }
        Notice::Attributes(ino) => vec![Notice::Attributes(numbers.number(ino))],
        Notice::Removed { parent, name, ino } => {
            vec![Notice::Removed { parent, name, ino: numbers.number(ino) }]
        }
        Notice::Entry { .. } => vec![notice],
    })
}

fn added_ino(change: &Change) -> Option<Ino> {
    match change {
        Change::EntryAdded { ino, .. } => Some(*ino),
        Change::EntryRemoved { .. } | Change::FileChanged { .. } | Change::FileForgotten { .. } => None,
    }
}

/// Starts the thread. Changes after `since` are announced.
pub(crate) fn start<B: Backends>(
    shared: &Arc<Shared<B>>,
    wakes: Wakes,
    kernel: Kernel,
    since: Revision,
) -> io::Result<()> {
    let shared = Arc::downgrade(shared);
    std::thread::Builder::new()
        .name(THREAD_NAME.into())
        .spawn(move || Announcer { shared, kernel, since, announced: wakes.announced }.run(&wakes.wakes))
        .map(drop)
}

struct Announcer<B: Backends, S> {
    /// Weak, so that a mount that has ended is not kept in memory by its own thread.
    shared: Weak<Shared<B>>,
    kernel: S,
    since: Revision,
    announced: Announced,
}

impl<B: Backends, S: Sink> Announcer<B, S> {
    fn run(mut self, wakes: &Receiver<Wake>) {
        while let Ok(first) = wakes.recv() {
            // All that wait are served by one look at the catalogue.
            let mut waiting = Vec::new();
            for wake in std::iter::once(first).chain(wakes.try_iter()) {
                match wake {
                    Wake::Changed => {}
                    Wake::CatchUp(done) => waiting.push(done),
                    Wake::Stop => return,
                }
            }
            let Some(shared) = self.shared.upgrade() else { return };
            let announced = catch_unwind(AssertUnwindSafe(|| self.announce(&shared.fs)));
            match announced {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::error!(
                    error = chain(&error),
                    "reading changes of the catalogue failed; they are announced with the next"
                ),
                Err(_) => {
                    count(&shared.fs.counters.panics);
                    tracing::error!("announcing changes panicked; they are announced with the next");
                }
            }
            for done in waiting {
                // Whoever waited may have given up.
                let _ = done.send(());
            }
        }
    }

    /// Announces all changes up to now.
    fn announce(&mut self, fs: &MusicFs<B>) -> Result<(), MetaError> {
        loop {
            let Changes { changes, upto, truncated } =
                fs.backends.meta().changes_since(self.since, CHANGES)?;
            fs.kernel.begin_comparing();
            if truncated {
                tracing::warn!("changes of the catalogue were lost; everything is looked up again");
                fs.files.numbers.forget_all();
                Self::sent(fs, self.kernel.everything());
            }
            for change in &changes {
                if let Change::FileChanged { id, content: true } | Change::FileForgotten { id } = change {
                    fs.files.numbers.forget(fs.files.numbers.number(id.ino()));
                }
            }
            for notice in notices(&changes, &fs.kernel) {
                for notice in by_number(fs, notice)? {
                    Self::sent(fs, self.kernel.send(&notice));
                }
            }
            let reached = upto == self.since;
            self.since = upto;
            self.announced.0.store(upto.0, Ordering::SeqCst);
            if reached {
                return Ok(());
            }
        }
    }

    fn sent(fs: &MusicFs<B>, sent: io::Result<()>) {
        count(&fs.counters.notifications);
        if let Err(error) = sent {
            // Nearly always the kernel no longer has it, or the mount has ended.
            tracing::debug!(%error, "a notification was not taken");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use musicfs_core::{FileId, OriginId, OriginPath};

    fn id(n: u32) -> FileId {
        FileId::derive(&OriginId::from("o"), &OriginPath::new(n.to_string()).unwrap(), 0)
    }

    fn dir(n: u64) -> Ino {
        Ino::from_raw(2000 + n)
    }

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    fn added(parent: u64, text: &str, file: u32) -> Change {
        Change::EntryAdded { parent: dir(parent), name: name(text), ino: id(file).ino() }
    }

    fn removed(parent: u64, text: &str, file: u32) -> Change {
        Change::EntryRemoved { parent: dir(parent), name: name(text), ino: id(file).ino() }
    }

    #[test]
    fn changes_that_the_kernel_knows_nothing_of_are_not_announced() {
        let kernel = KernelView::new();
        let changes: Vec<Change> = (0..1000)
            .flat_map(|n| {
                [
                    added(u64::from(n % 50), &n.to_string(), n),
                    Change::FileChanged { id: id(n), content: true },
                ]
            })
            .collect();
        assert_eq!(notices(&changes, &kernel), []);
    }

    #[test]
    fn listed_directory_is_announced_once_for_many_new_entries() {
        let kernel = KernelView::new();
        kernel.note_inode(dir(1));
        kernel.note_entry(dir(1), b"7");
        let changes: Vec<Change> = (0..100).map(|n| added(1, &n.to_string(), n)).collect();
        let expected = [Notice::Entry { parent: dir(1), name: name("7") }, Notice::Inode(dir(1))];
        assert_eq!(notices(&changes, &kernel), expected);
    }

    #[test]
    fn moved_file_is_not_announced_as_deleted() {
        let kernel = KernelView::new();
        kernel.note_entry(dir(1), b"a");
        kernel.note_entry(dir(1), b"b");
        let changes = [removed(1, "a", 1), removed(1, "b", 2), added(2, "a", 1)];
        let expected = [
            Notice::Entry { parent: dir(1), name: name("a") },
            Notice::Removed { parent: dir(1), name: name("b"), ino: id(2).ino() },
        ];
        assert_eq!(notices(&changes, &kernel), expected);
    }

    #[test]
    fn changed_content_of_a_known_file_is_announced_and_changed_tags_are_not() {
        let kernel = KernelView::new();
        kernel.note_inode(id(1).ino());
        kernel.note_inode(id(2).ino());
        let changes = [
            Change::FileChanged { id: id(1), content: true },
            Change::FileChanged { id: id(2), content: false },
            Change::FileForgotten { id: id(2) },
        ];
        let expected = [Notice::Inode(id(1).ino()), Notice::Attributes(id(2).ino())];
        assert_eq!(notices(&changes, &kernel), expected);
    }
}
