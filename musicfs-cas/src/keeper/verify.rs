//! Looking at every chunk, whether it is as it should be.

use musicfs_core::{ChunkError, ChunkHash, EventKind};
use serde::Serialize;

use super::{CacheKeeper, PAGE};

/// How far a verification is, and in the end what it found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// Chunks looked at.
    pub chunks: u64,
    /// Bytes that are as they should be.
    pub bytes: u64,
    /// Chunks that were damaged, and are in quarantine now.
    pub damaged: u64,
    /// Chunks whose files were gone.
    pub missing: u64,
    /// Chunks that could not be read.
    pub unreadable: u64,
    /// The damaged and the missing, to be fetched again.
    #[serde(skip)]
    pub lost: Vec<ChunkHash>,
}

impl CacheKeeper {
    /// Reads every chunk and compares it with its name; tells how far it is after each few. What is damaged goes
    /// into quarantine. Cancel safe: what was looked at is done.
    pub async fn verify(&self, progress: &(dyn Fn(&Verified) + Sync)) -> Verified {
        let store = self.store();
        let mut done = Verified::default();
        let mut after = None;
        loop {
            let page = store.files.index.lock().page(after, PAGE);
            let Some((last, _)) = page.last() else { break };
            after = Some(*last);
            for few in page.chunks(16) {
                let hashes: Vec<ChunkHash> = few.iter().map(|(hash, _)| *hash).collect();
                let looked = hashes.clone();
                let results = store.blocking(move |files| {
                    Ok(looked.iter().map(|hash| files.check(hash)).collect::<Vec<_>>())
                });
                let results = results.await.unwrap_or_default();
                for (hash, result) in hashes.into_iter().zip(results) {
                    if matches!(result, Err(ChunkError::Corrupt(_))) {
                        self.tell(EventKind::CacheCorrupt { chunk: hash.to_string() });
                    }
                    done.take(hash, result);
                }
                progress(&done);
            }
        }
        done
    }
}

impl Verified {
    fn take(&mut self, hash: ChunkHash, result: Result<Option<u64>, ChunkError>) {
        self.chunks += 1;
        match result {
            Ok(Some(bytes)) => self.bytes += bytes,
            Ok(None) => {
                self.missing += 1;
                self.lost.push(hash);
            }
            Err(ChunkError::Corrupt(_)) => {
                self.damaged += 1;
                self.lost.push(hash);
            }
            Err(ChunkError::Io(_) | ChunkError::Full { .. }) => self.unreadable += 1,
        }
    }
}
