//! Handles that were looked up lately.

use std::collections::HashMap;
use std::time::Duration;

use musicfs_core::{MonoTime, OriginPath};

use super::calls::FileHandle;

/// Most handles remembered; a quarter goes when there are more.
const CAPACITY: usize = 4096;
/// How long a handle stands for its path. A folder that is renamed keeps its handle, so that one kept for longer
/// would show the renamed folder where another one is now.
const VALID_FOR: Duration = Duration::from_secs(20);

/// Handles by path.
#[derive(Debug, Default)]
pub(super) struct Handles(HashMap<OriginPath, (FileHandle, MonoTime)>);

impl Handles {
    pub(super) fn get(&self, path: &OriginPath, now: MonoTime) -> Option<FileHandle> {
        let (handle, since) = self.0.get(path)?;
        (now.since(*since) < VALID_FOR).then(|| handle.clone())
    }

    pub(super) fn put(&mut self, path: OriginPath, handle: FileHandle, now: MonoTime) {
        if self.0.len() >= CAPACITY {
            self.0.retain(|_, (_, since)| now.since(*since) < VALID_FOR);
        }
        if self.0.len() >= CAPACITY {
            let mut times: Vec<MonoTime> = self.0.values().map(|(_, since)| *since).collect();
            times.sort_unstable();
            let oldest = times[CAPACITY / 4];
            self.0.retain(|_, (_, since)| *since > oldest);
        }
        self.0.insert(path, (handle, now));
    }

    /// Forgets a path, the folders above it and all below: one of them is not what it was.
    pub(super) fn forget(&mut self, path: &OriginPath) {
        self.0.retain(|known, _| !path.is_within(known) && !known.is_within(path));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nfs::calls::FileHandle;

    fn path(text: &str) -> OriginPath {
        OriginPath::new(text).unwrap()
    }

    fn at(seconds: u64) -> MonoTime {
        MonoTime(Duration::from_secs(seconds))
    }

    #[test]
    fn handle_is_forgotten_with_age_and_with_what_is_above_and_below() {
        let mut handles = Handles::default();
        for name in ["a", "a/b", "a/b/c", "a/bb"] {
            handles.put(path(name), FileHandle::of(name.as_bytes()), at(10));
        }
        assert_eq!(handles.get(&path("a/b"), at(11)), Some(FileHandle::of(b"a/b")));
        assert_eq!(handles.get(&path("a/b"), at(31)), None);
        handles.forget(&path("a/b"));
        for name in ["a", "a/b", "a/b/c"] {
            assert_eq!(handles.get(&path(name), at(11)), None, "{name}");
        }
        assert!(handles.get(&path("a/bb"), at(11)).is_some());
    }

    #[test]
    fn no_more_handles_are_kept_than_there_is_room_for() {
        let mut handles = Handles::default();
        for n in 0..3 * CAPACITY {
            handles.put(
                path(&n.to_string()),
                FileHandle::of(b"x"),
                MonoTime(Duration::from_micros(n as u64)),
            );
            assert!(handles.0.len() <= CAPACITY);
        }
        assert!(handles.0.len() > CAPACITY / 2);
    }
}
