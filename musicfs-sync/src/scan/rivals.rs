//! First passes that run side by side.
//!
//! Of two files that want one name, the one that came first has it. Of origins that are scanned for the first time
//! at once, the files of the preferred are to have it, however fast it is: when its first pass ends, it takes the
//! names that files of less preferred ones got meanwhile. Who those are is kept here.
//!
//! One lock, held for a few lines.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use musicfs_core::OriginId;
use parking_lot::Mutex;

/// The first passes that are under way, each with the origins whose first passes ran beside it.
#[derive(Default)]
pub(super) struct Rivals(Arc<Mutex<HashMap<OriginId, HashSet<OriginId>>>>);

/// A first pass that is under way.
pub(super) struct FirstPass {
    all: Arc<Mutex<HashMap<OriginId, HashSet<OriginId>>>>,
    origin: OriginId,
}

impl Rivals {
    /// Notes that a pass over an origin begins that may be the first.
    pub(super) fn begin(&self, origin: &OriginId) -> FirstPass {
        let mut all = self.0.lock();
        for others in all.values_mut() {
            others.insert(origin.clone());
        }
        let others = all.keys().cloned().collect();
        all.insert(origin.clone(), others);
        drop(all);
        FirstPass { all: self.0.clone(), origin: origin.clone() }
    }
}

impl FirstPass {
    /// It turned out not to be the first.
    pub(super) fn retract(self) {
        for others in self.all.lock().values_mut() {
            others.remove(&self.origin);
        }
    }

    /// Ends it, and returns the origins whose first passes ran beside it.
    pub(super) fn end(self) -> HashSet<OriginId> {
        self.all.lock().remove(&self.origin).unwrap_or_default()
    }
}

impl Drop for FirstPass {
    fn drop(&mut self) {
        self.all.lock().remove(&self.origin);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_passes_know_who_ran_beside_them() {
        let rivals = Rivals::default();
        let (a, b) = (rivals.begin(&"a".into()), rivals.begin(&"b".into()));
        assert_eq!(a.end(), HashSet::from(["b".into()]));
        let c = rivals.begin(&"c".into());
        drop(c);
        let d = rivals.begin(&"d".into());
        assert_eq!(b.end(), HashSet::from(["a".into(), "c".into(), "d".into()]));
        assert_eq!(d.end(), HashSet::from(["b".into()]));
        let (e, f) = (rivals.begin(&"e".into()), rivals.begin(&"f".into()));
        e.retract();
        assert_eq!(f.end(), HashSet::new());
    }
}
