//! Chunk files keep the contract of a chunk store.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use musicfs_cas::{CasConfig, CasStore};
use musicfs_test_utils::chunk_store_conformance;
use musicfs_test_utils::conformance::chunk_store::{Fixture, ROOM};

async fn fixture() -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let store = CasStore::open(CasConfig::new(dir.path()).with_max_size(ROOM)).await.unwrap();
    let damaged = store.clone();
    let damage = move |hash: &_| {
        let path = damaged.chunk_path(hash);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[0] ^= 1;
        std::fs::write(path, bytes).unwrap();
    };
    Fixture::new(store).limited().damaged_by(damage).keeping(dir)
}

chunk_store_conformance!(cas_store, fixture().await);
