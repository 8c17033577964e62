//! Bytes on their way to who asked for them.

use std::fmt;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;

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

    /// Makes a sink that keeps what it is given, for who wants the bytes in one piece.
    ///
    /// ```
    /// use bytes::Bytes;
    /// use musicfs_core::PartSink;
    ///
    /// let (parts, gathered) = PartSink::gathering();
    /// parts.push(Bytes::from_static(b"mu"));
    /// parts.push(Bytes::from_static(b"sic"));
    /// assert_eq!(gathered.finish(), "music");
    /// ```
    pub fn gathering() -> (Self, Gathered) {
        let gathered = Gathered::default();
        let into = Arc::clone(&gathered.0);
        (Self::new(move |part| into.lock().push(part)), gathered)
    }

    /// Returns a sink that has `look` see each part before it is handed on to this one.
    pub fn inspect(&self, look: impl Fn(&Bytes) + Send + Sync + 'static) -> Self {
        let next = self.clone();
        Self::new(move |part| {
            look(&part);
            next.push(part);
        })
    }

    /// Hands a part on.
    pub fn push(&self, part: Bytes) {
        (self.0)(part);
    }
}

/// What a sink of [`PartSink::gathering`] was given.
#[derive(Clone, Debug, Default)]
pub struct Gathered(Arc<Mutex<Vec<Bytes>>>);

impl Gathered {
    /// Returns all of it: a single part as it is, several copied into one.
    pub fn finish(self) -> Bytes {
        let mut parts = std::mem::take(&mut *self.0.lock());
        if parts.len() == 1 {
            return parts.swap_remove(0);
        }
        let mut all = BytesMut::with_capacity(parts.iter().map(Bytes::len).sum());
        // Each part is let go of once it is copied.
        parts.drain(..).for_each(|part| all.extend_from_slice(&part));
        all.freeze()
    }
}
