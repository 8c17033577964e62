//! What the filesystem is composed over.

use musicfs_core::{Clock, ContentReader, MetaDb, Refresher};

/// The parts that a [`MusicFs`](crate::MusicFs) is composed of, bundled in one type parameter.
///
/// An embedder picks concrete types; who wants to choose at run time picks `Arc<dyn …>`, which implement the
/// same traits. [`Parts`] is the plain way to make one.
pub trait Backends: Send + Sync + 'static {
    /// What is known of files and the tree.
    type Meta: MetaDb;
    /// What delivers the bytes.
    type Reader: ContentReader;
    /// What brings the catalogue up to date on one file.
    type Refresher: Refresher;
    /// What tells the time.
    type Clock: Clock;

    /// Returns the catalogue.
    fn meta(&self) -> &Self::Meta;
    /// Returns the reader of bytes.
    fn reader(&self) -> &Self::Reader;
    /// Returns the refresher.
    fn refresher(&self) -> &Self::Refresher;
    /// Returns the clock.
    fn clock(&self) -> &Self::Clock;
}

/// The parts, side by side.
#[derive(Clone, Debug)]
pub struct Parts<M, R, F, C> {
    /// What is known of files and the tree.
    pub meta: M,
    /// What delivers the bytes.
    pub reader: R,
    /// What brings the catalogue up to date on one file.
    pub refresher: F,
    /// What tells the time.
    pub clock: C,
}

impl<M: MetaDb, R: ContentReader, F: Refresher, C: Clock> Backends for Parts<M, R, F, C> {
    type Meta = M;
    type Reader = R;
    type Refresher = F;
    type Clock = C;

    fn meta(&self) -> &M {
        &self.meta
    }
    fn reader(&self) -> &R {
        &self.reader
    }
    fn refresher(&self) -> &F {
        &self.refresher
    }
    fn clock(&self) -> &C {
        &self.clock
    }
}
