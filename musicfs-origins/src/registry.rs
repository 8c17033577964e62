//! The origins of a library.

use std::sync::Arc;

use musicfs_core::{Origin, OriginId};
use parking_lot::RwLock;

/// An origin with its place in the order of preference.
#[derive(Clone)]
pub struct Registered {
    /// The origin.
    pub origin: Arc<dyn Origin>,
    /// Lower numbers are preferred.
    pub priority: u32,
}

impl std::fmt::Debug for Registered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registered")
            .field("origin", self.origin.id())
            .field("priority", &self.priority)
            .finish()
    }
}

/// Holds the origins of a library by id and by preference.
///
/// One lock, held for as long as it takes to find an entry in a short list.
#[derive(Debug, Default)]
pub struct OriginRegistry {
    origins: RwLock<Vec<Registered>>,
}

impl OriginRegistry {
    /// Makes a registry without origins.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an origin, in place of one with the same id. Lower priorities are preferred; among equal ones, those
    /// that were added first.
    pub fn register(&self, origin: Arc<dyn Origin>, priority: u32) {
        let mut origins = self.origins.write();
        origins.retain(|r| r.origin.id() != origin.id());
        let at = origins.partition_point(|r| r.priority <= priority);
        origins.insert(at, Registered { origin, priority });
    }

    /// Returns the origin with this id.
    pub fn get(&self, id: &OriginId) -> Option<Arc<dyn Origin>> {
        self.origins.read().iter().find(|r| r.origin.id() == id).map(|r| Arc::clone(&r.origin))
    }

    /// Returns all origins, the most preferred first.
    pub fn all(&self) -> Vec<Registered> {
        self.origins.read().clone()
    }

    /// Removes the origin with this id and returns it. Calls that are under way go on.
    pub fn remove(&self, id: &OriginId) -> Option<Arc<dyn Origin>> {
        let mut origins = self.origins.write();
        let at = origins.iter().position(|r| r.origin.id() == id)?;
        Some(origins.remove(at).origin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::LocalOrigin;

    #[test]
    fn origins_come_by_priority_and_a_known_id_is_replaced() {
        let registry = OriginRegistry::new();
        let add = |id: &str, root: &str, priority| {
            registry.register(Arc::new(LocalOrigin::new(id, root)), priority);
        };
        add("b", "/b", 2);
        add("a", "/a", 1);
        add("c", "/c", 2);
        let order = || registry.all().iter().map(|r| r.origin.id().to_string()).collect::<String>();
        assert_eq!(order(), "abc");
        add("a", "/a", 3);
        assert_eq!(order(), "bca");
        assert!(registry.get(&"a".into()).is_some());
        assert!(registry.remove(&"a".into()).is_some());
        assert!(registry.get(&"a".into()).is_none());
        assert!(registry.remove(&"a".into()).is_none());
    }
}
