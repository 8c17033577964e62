//! The doubles and the fault injectors keep the contracts, and so do clocks.

use std::sync::Arc;

use musicfs_cas::{CasConfig, CasStore};
use musicfs_core::{ChunkStore, Clock, MetaDb, Origin, OriginCaps, SystemClock};
use musicfs_test_utils::conformance::{chunk_store, clock, meta_db, origin};
use musicfs_test_utils::{
    FailMode, FaultyCasStore, FaultyOrigin, ManualClock, MemoryChunkStore, MemoryMetaDb, MemoryOrigin,
    chunk_store_conformance, clock_conformance, meta_db_conformance, origin_conformance,
};

fn memory(caps: OriginCaps) -> MemoryOrigin {
    let origin = MemoryOrigin::new("memory").with_caps(caps).with_page_size(3);
    for (path, bytes) in origin::sample_files() {
        origin.put(path.as_bytes(), bytes);
    }
    origin
}

fn origin_of(origin: impl Origin) -> origin::Fixture {
    origin::Fixture::new(origin, origin::sample_files())
}

origin_conformance!(memory_origin, origin_of(memory(OriginCaps::local())));
origin_conformance!(
    memory_origin_with_etags_and_short_ranges,
    origin_of(memory(OriginCaps::remote().with_strong_versions().with_max_range(1000)))
);
origin_conformance!(
    healthy_faulty_origin,
    origin_of(FaultyOrigin::new(memory(OriginCaps::local()), FailMode::Healthy))
);
origin_conformance!(shared_origin, origin_of(Arc::new(memory(OriginCaps::local())) as Arc<dyn Origin>));

fn memory_chunks() -> MemoryChunkStore {
    MemoryChunkStore::new().with_max_size(chunk_store::ROOM)
}

fn chunks_of(store: impl ChunkStore, memory: MemoryChunkStore) -> chunk_store::Fixture {
    chunk_store::Fixture::new(store).limited().damaged_by(move |hash| assert!(memory.damage(hash)))
}

chunk_store_conformance!(memory_chunk_store, {
    let store = memory_chunks();
    chunks_of(store.clone(), store)
});
chunk_store_conformance!(healthy_faulty_cas_store, {
    let store = memory_chunks();
    chunks_of(FaultyCasStore::new(store.clone()), store)
});
chunk_store_conformance!(healthy_faulty_cas_store_on_disk, {
    let dir = tempfile::tempdir().expect("a folder");
    let config = CasConfig::new(dir.path()).with_max_size(chunk_store::ROOM);
    let store = CasStore::open(config).await.expect("a store");
    let damaged = store.clone();
    let damage = move |hash: &_| std::fs::write(damaged.chunk_path(hash), "other bytes").expect("a write");
    chunk_store::Fixture::new(FaultyCasStore::new(store)).limited().damaged_by(damage).keeping(dir)
});
chunk_store_conformance!(shared_chunk_store, {
    let store = memory_chunks();
    chunks_of(Arc::new(store.clone()) as Arc<dyn ChunkStore>, store)
});

meta_db_conformance!(memory_meta_db, meta_db::Fixture::new(MemoryMetaDb::new()));
meta_db_conformance!(shared_meta_db, meta_db::Fixture::new(Arc::new(MemoryMetaDb::new()) as Arc<dyn MetaDb>));

clock_conformance!(system_clock, clock::Fixture::ticking(SystemClock::new()));
clock_conformance!(manual_clock, {
    let clock = ManualClock::new();
    clock::Fixture::manual(clock.clone(), move |by| clock.advance(by))
});
clock_conformance!(shared_clock, clock::Fixture::ticking(Arc::new(SystemClock::new()) as Arc<dyn Clock>));
