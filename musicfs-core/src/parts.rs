//! Bytes on their way to who asked for them.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

/// Takes the parts of a read as they come, in order. Cloning gives another handle on the same sink.
///
/// ```
/// use std::sync::{Arc, Mutex};
///
/// use bytes::Bytes;
/// use musicfs_core::PartSink;
///
/// let taken = Arc::new(Mutex::new(Vec::new()));
/// let into = Arc::clone(&taken);
/// let parts = PartSink::new(move |part: Bytes| into.lock().unwrap().extend_from_slice(&part));
/// parts.push(Bytes::from_static(b"mu"));
/// parts.push(Bytes::from_static(b"sic"));
/// assert_eq!(*taken.lock().unwrap(), b"music");
/// ```
#[derive(Clone)]
pub struct PartSink(Arc<dyn Fn(Bytes) + Send + Sync>);

impl fmt::Debug for PartSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PartSink")
    }
}

impl PartSink {
    /// Makes a sink of what `take` does with each part. It is called from inside the read: it must not block.
    pub fn new(take: impl Fn(Bytes) + Send + Sync + 'static) -> Self {
        Self(Arc::new(take))
    }

    /// Hands a part on.
    pub fn push(&self, part: Bytes) {
        (self.0)(part);
    }
}
