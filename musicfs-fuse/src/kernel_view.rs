//! What the kernel may have cached, in a fixed amount of memory.
//!
//! Every name and inode that was answered to the kernel is noted in a bitmap by its hash. A notification is sent
//! only for what is noted, so that a first scan of a hundred thousand files, which nobody has looked at yet,
//! costs no notifications. Two things of one hash are taken for one another; then a notification is sent in vain.
//! Nothing is ever taken back: the kernel does not say reliably what it has dropped.
//!
//! No change may slip through between the catalogue's answer and its note. What is known before the catalogue is
//! asked is noted before; what the answer itself names (an inode) is noted after, and the answer is taken only
//! when no change was looked at meanwhile ([`KernelView::settled`]); else the catalogue is asked again.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};

use musicfs_core::Ino;

/// log2 of the number of bits of a bitmap: 128 KiB each. With 100,000 names seen, about one in ten that were not
/// is taken for one that was.
const BITS: u32 = 20;

struct Bitmap(Box<[AtomicU64]>);

impl Bitmap {
    fn new() -> Self {
        Self((0..(1usize << BITS) / 64).map(|_| AtomicU64::new(0)).collect())
    }

    fn place(hash: u64) -> (usize, u64) {
        let bit = hash >> (64 - BITS);
        ((bit / 64) as usize, 1 << (bit % 64))
    }

    fn set(&self, hash: u64) {
        let (word, bit) = Self::place(hash);
        self.0[word].fetch_or(bit, Ordering::SeqCst);
    }

    fn has(&self, hash: u64) -> bool {
        let (word, bit) = Self::place(hash);
        self.0[word].load(Ordering::SeqCst) & bit != 0
    }
}

/// What was answered to the kernel since the mount, and it may still have cached.
pub(crate) struct KernelView {
    inodes: Bitmap,
    entries: Bitmap,
    /// Counts how often changes were compared with the notes; raised before each time.
    compared: AtomicU64,
}

impl KernelView {
    pub(crate) fn new() -> Self {
        Self { inodes: Bitmap::new(), entries: Bitmap::new(), compared: AtomicU64::new(0) }
    }

    /// Says that changes are about to be compared with the notes.
    pub(crate) fn begin_comparing(&self) {
        self.compared.fetch_add(1, Ordering::SeqCst);
    }

    /// Asks with `ask`, notes with `note` what the answer tells the kernel, and returns the answer once no change
    /// was compared with the notes in between. Under a storm of changes the third answer is taken: by then all but
    /// what appeared in it for the first time was noted before.
    pub(crate) fn settled<T, E>(
        &self,
        mut ask: impl FnMut() -> Result<T, E>,
        mut note: impl FnMut(&T),
    ) -> Result<T, E> {
        for _ in 0..2 {
            let before = self.compared.load(Ordering::SeqCst);
            let answer = ask()?;
            note(&answer);
            if self.compared.load(Ordering::SeqCst) == before {
                return Ok(answer);
            }
        }
        let answer = ask()?;
        note(&answer);
        Ok(answer)
    }

    /// Notes that the kernel is about to be told of an inode.
    pub(crate) fn note_inode(&self, ino: Ino) {
        self.inodes.set(hash_of(&ino));
    }

    /// Notes that the kernel is about to be told whether there is an entry of this name.
    pub(crate) fn note_entry(&self, parent: Ino, name: &[u8]) {
        self.entries.set(hash_of(&(parent, name)));
    }

    /// Tells whether the kernel may know an inode.
    pub(crate) fn knows_inode(&self, ino: Ino) -> bool {
        self.inodes.has(hash_of(&ino))
    }

    /// Tells whether the kernel may know that an entry is there, or that it is not.
    pub(crate) fn knows_entry(&self, parent: Ino, name: &[u8]) -> bool {
        self.entries.has(hash_of(&(parent, name)))
    }
}

fn hash_of(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_view_knows_what_was_noted_and_little_else() {
        let view = KernelView::new();
        for n in 0..10_000 {
            view.note_inode(Ino::from_raw(n));
            view.note_entry(Ino::from_raw(n), b"x");
        }
        assert!((0..10_000).all(|n| view.knows_inode(Ino::from_raw(n))));
        assert!((0..10_000).all(|n| view.knows_entry(Ino::from_raw(n), b"x")));
        let wrong = (10_000..20_000).filter(|n| view.knows_inode(Ino::from_raw(*n))).count();
        assert!(wrong < 300, "{wrong} of 10000 mistaken");
        let wrong = (0..10_000).filter(|n| view.knows_entry(Ino::from_raw(*n), b"y")).count();
        assert!(wrong < 300, "{wrong} of 10000 mistaken");
    }

    #[test]
    fn answer_that_a_change_overtook_is_asked_for_again() {
        let view = KernelView::new();
        let mut asked = 0;
        let answer: Result<u32, ()> = view.settled(
            || {
                asked += 1;
                if asked == 1 {
                    view.begin_comparing();
                }
                Ok(asked)
            },
            |_| {},
        );
        assert_eq!(answer, Ok(2));
    }
}
