//! Says a thing once a minute for each file, not once for each read.

use std::collections::HashMap;
use std::time::Duration;

use musicfs_core::{MonoTime, OriginId, OriginPath};
use parking_lot::Mutex;

/// How long a file is not spoken of again.
const QUIET: Duration = Duration::from_secs(60);
/// Files remembered; past this, those that may be spoken of again are forgotten, and failing that all.
const MAX_FILES: usize = 1024;

/// When each file was last spoken of.
#[derive(Default)]
pub(super) struct Warned {
    files: Mutex<HashMap<(OriginId, OriginPath), MonoTime>>,
}

impl Warned {
    /// Tells whether a file may be spoken of, and takes it that it now is.
    pub(super) fn is_due(&self, origin: &OriginId, path: &OriginPath, now: MonoTime) -> bool {
        let mut files = self.files.lock();
        let key = (origin.clone(), path.clone());
        if files.get(&key).is_some_and(|at| now.since(*at) < QUIET) {
            return false;
        }
        if files.len() >= MAX_FILES {
            files.retain(|_, at| now.since(*at) < QUIET);
            if files.len() >= MAX_FILES {
                files.clear();
            }
        }
        files.insert(key, now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_is_spoken_of_once_a_minute_and_others_besides() {
        let warned = Warned::default();
        let origin = OriginId::from("o");
        let path = |n: usize| OriginPath::new(n.to_string()).unwrap();
        let at = |s| MonoTime(Duration::from_secs(s));
        assert!(warned.is_due(&origin, &path(1), at(10)));
        assert!(!warned.is_due(&origin, &path(1), at(69)));
        assert!(warned.is_due(&origin, &path(2), at(69)));
        assert!(warned.is_due(&origin, &path(1), at(70)));
    }

    #[test]
    fn memory_of_what_was_said_is_bounded() {
        let warned = Warned::default();
        let origin = OriginId::from("o");
        for n in 0..3 * MAX_FILES {
            warned.is_due(&origin, &OriginPath::new(n.to_string()).unwrap(), MonoTime::default());
        }
        assert!(warned.files.lock().len() <= MAX_FILES);
    }
}
