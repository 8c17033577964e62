//! Comparing all that is cached of a file with its origin, by order.
//!
//! What is cached is made a guess of first. So whoever reads meanwhile compares as well, what is wrong is replaced as any
//! wrong guess is, and what could not be compared stays a guess.

use std::sync::Arc;

use async_trait::async_trait;
use futures::future::try_join_all;
use musicfs_core::{ByteRange, Compared, ContentVerifier, FileMeta, ReadError, ReadPlan};

use super::flights::Asked;
use super::table::Shared;
use super::{FileReader, Inner};

/// Chunks that are fetched at once.
const AT_ONCE: usize = 4;

#[async_trait]
impl ContentVerifier for FileReader {
    async fn compare(&self, file: &FileMeta) -> Result<Compared, ReadError> {
        if !(self.inner.worth_caching)(&file.origin) {
            return Ok(Compared::default());
        }
        self.inner.compare_cached(file).await
    }
}

impl Inner {
    async fn compare_cached(self: &Arc<Self>, file: &FileMeta) -> Result<Compared, ReadError> {
        let plan = ReadPlan::verbatim(file);
        let shared = self.file(file.id, &file.version, Some(file), Asked::Prefetch).await?;
        self.forget_evicted(&shared);
        let (cached, before) = {
            let mut state = shared.lock();
            (state.doubt(), state.refutations())
        };
        if cached.is_empty() {
            return Ok(Compared::default());
        }
        // Recorded first: what is not compared must not be believed after a restart either.
        self.save_anyhow(&shared, &plan).await;
        let done = self.fetch_all(&shared, &plan, &cached).await;
        let mut in_flight = shared.in_flight.subscribe();
        // The sender is in `shared`.
        let _ = in_flight.wait_for(|count| *count == 0).await;
        self.save_if_due(&shared, &plan, 0).await;
        let bytes = done?;
        Ok(Compared { bytes, differs: shared.lock().refutations() != before })
    }

    /// Fetches stretches, a few at a time, and returns how long they are together. What turned out to be wrong is fetched
    /// like the rest.
    async fn fetch_all(
        self: &Arc<Self>,
        file: &Shared,
        plan: &ReadPlan,
        stretches: &[ByteRange],
    ) -> Result<u64, ReadError> {
        for few in stretches.chunks(AT_ONCE) {
            try_join_all(few.iter().map(|stretch| self.fetch_stretch(file, plan, *stretch))).await?;
        }
        Ok(stretches.iter().map(ByteRange::len).sum())
    }
}
