//! What every [`ChunkStore`] promises.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt;
use futures::future::join_all;
use musicfs_core::{ChunkError, ChunkHash, ChunkStore};

/// Longest chunk, by the contract.
const LONGEST: usize = 16 * 1024 * 1024;

/// Room that a store for these checks must have.
pub const ROOM: u64 = 24 * 1024 * 1024;

/// A store without chunks.
pub struct Fixture {
    store: Arc<dyn ChunkStore>,
    limited: bool,
    damage: Option<Damage>,
    _keep: Box<dyn Any + Send + Sync>,
}

/// Damages the stored bytes of a chunk.
type Damage = Box<dyn Fn(&ChunkHash) + Send + Sync>;

impl Fixture {
    /// Takes a store without chunks, with room for [`ROOM`] bytes at least.
    pub fn new(store: impl ChunkStore) -> Self {
        Self { store: Arc::new(store), limited: false, damage: None, _keep: Box::new(()) }
    }

    /// Says that the store has a limit, of exactly [`ROOM`] bytes: without, the check of being full fails.
    pub fn limited(mut self) -> Self {
        self.limited = true;
        self
    }

    /// Says how the stored bytes of a chunk are damaged: without, the check of that fails.
    pub fn damaged_by(mut self, damage: impl Fn(&ChunkHash) + Send + Sync + 'static) -> Self {
        self.damage = Some(Box::new(damage));
        self
    }

    /// Keeps something for as long as the check lasts.
    pub fn keeping(mut self, keep: impl Any + Send + Sync) -> Self {
        self._keep = Box::new(keep);
        self
    }

    async fn put(&self, bytes: &'static [u8]) -> ChunkHash {
        self.store.put(Bytes::from_static(bytes)).await.expect("a put")
    }

    async fn get(&self, hash: &ChunkHash) -> Option<Bytes> {
        self.store.get(hash).await.expect("a get")
    }

    /// Lists and checks that the sum is the store's size.
    async fn list(&self) -> BTreeMap<ChunkHash, u64> {
        let listed: Vec<_> = self.store.list().try_collect().await.expect("a listing");
        let chunks: BTreeMap<_, _> = listed.iter().copied().collect();
        assert_eq!(chunks.len(), listed.len(), "no chunk twice");
        assert_eq!(chunks.values().sum::<u64>(), self.store.current_size());
        chunks
    }
}

/// A chunk that was put is got, under the BLAKE3 hash of its bytes.
pub async fn chunk_put_is_got_under_its_hash(fixture: Fixture) {
    let long = Bytes::from(vec![7; LONGEST]);
    for bytes in [Bytes::from_static(b"x"), Bytes::from_static(b"\0\0"), long] {
        let hash = fixture.store.put(bytes.clone()).await.expect("a put");
        assert_eq!(hash, ChunkHash::of(&bytes));
        assert!(fixture.get(&hash).await.is_some_and(|got| got == bytes));
        assert!(fixture.store.contains(&hash).await.expect("an answer"));
    }
}

/// What was never put is absent.
pub async fn chunk_never_put_is_absent(fixture: Fixture) {
    fixture.put(b"another").await;
    let hash = ChunkHash::of(b"never put");
    assert_eq!(fixture.get(&hash).await, None);
    assert!(!fixture.store.contains(&hash).await.expect("an answer"));
    assert_eq!(fixture.store.remove(&hash).await.expect("an answer"), None);
}

/// Putting what is there changes nothing.
pub async fn put_again_changes_nothing(fixture: Fixture) {
    let hash = fixture.put(b"the same").await;
    assert_eq!(fixture.put(b"the same").await, hash);
    assert_eq!(fixture.list().await, BTreeMap::from([(hash, 8)]));
}

/// Sizes and the listing follow each put and each remove exactly.
pub async fn size_and_listing_follow_every_change(fixture: Fixture) {
    assert_eq!(fixture.store.current_size(), 0);
    let mut expected = BTreeMap::new();
    for n in 1..=60u64 {
        let bytes = Bytes::from(vec![n as u8; n as usize * 3]);
        let hash = fixture.store.put(bytes).await.expect("a put");
        expected.insert(hash, n * 3);
        if n % 4 == 0 {
            let gone = *expected.keys().next().expect("a chunk");
            let freed = fixture.store.remove(&gone).await.expect("a remove");
            assert_eq!(freed, expected.remove(&gone));
        }
        assert_eq!(fixture.store.current_size(), expected.values().sum::<u64>());
    }
    assert_eq!(fixture.list().await, expected);
}

/// A removed chunk is absent, frees its length once, and can be put again.
pub async fn removed_chunk_is_absent_and_freed_once(fixture: Fixture) {
    let hash = fixture.put(b"removed").await;
    assert_eq!(fixture.store.remove(&hash).await.expect("a remove"), Some(7));
    assert_eq!(fixture.store.remove(&hash).await.expect("a remove"), None);
    assert_eq!(fixture.get(&hash).await, None);
    assert!(fixture.list().await.is_empty());
    fixture.put(b"removed").await;
    assert_eq!(fixture.store.current_size(), 7);
}

/// Many puts of one chunk at once are one chunk.
pub async fn puts_of_one_chunk_at_once_count_once(fixture: Fixture) {
    let hashes = join_all((0..30).map(|_| fixture.put(b"all at once"))).await;
    assert!(hashes.iter().all(|hash| *hash == hashes[0]));
    assert_eq!(fixture.list().await, BTreeMap::from([(hashes[0], 11)]));
}

/// Puts, gets and removes of one chunk at once leave it there or not, and the size exact.
pub async fn changes_of_one_chunk_at_once_keep_the_size_exact(fixture: Fixture) {
    let hash = ChunkHash::of(b"to and fro");
    for _ in 0..10 {
        let puts = join_all((0..6).map(|_| fixture.put(b"to and fro")));
        let removes = join_all((0..6).map(|_| fixture.store.remove(&hash)));
        let gets = join_all((0..6).map(|_| fixture.get(&hash)));
        let (_, removes, gets) = futures::join!(puts, removes, gets);
        assert!(removes.into_iter().all(|freed| matches!(freed, Ok(None | Some(10)))));
        assert!(gets.into_iter().flatten().all(|bytes| bytes == b"to and fro"[..]));
        let there = fixture.get(&hash).await.is_some();
        assert_eq!(fixture.list().await.len(), usize::from(there));
    }
}

/// A put that is dropped leaves the chunk whole or absent, and counted as it is.
pub async fn dropped_put_leaves_the_chunk_whole_or_absent(fixture: Fixture) {
    let bodies: Vec<Bytes> = (0..40u8).map(|n| Bytes::from(vec![n; 5000])).collect();
    for (n, bytes) in bodies.iter().enumerate() {
        let mut put = fixture.store.put(bytes.clone());
        for _ in 0..n % 3 {
            if futures::poll!(&mut put).is_ready() {
                break;
            }
        }
    }
    // A second put waits for whatever is still going on with the same chunk.
    for bytes in &bodies {
        let hash = ChunkHash::of(bytes);
        assert!(fixture.get(&hash).await.is_none_or(|got| got == *bytes));
        fixture.store.put(bytes.clone()).await.expect("a put");
        assert!(fixture.get(&hash).await.is_some_and(|got| got == *bytes));
    }
    assert_eq!(fixture.list().await.len(), bodies.len());
    assert_eq!(fixture.store.current_size(), 40 * 5000);
}

/// A full store says so, stores nothing, still has what it had, and takes more when room is made.
pub async fn full_store_says_so_and_keeps_what_it_has(fixture: Fixture) {
    assert!(fixture.limited, "not checked, as the fixture does not say that its store is `limited`");
    let first = fixture.store.put(Bytes::from(vec![1; LONGEST])).await.expect("a put");
    let second = Bytes::from(vec![2; LONGEST]);
    for _ in 0..2 {
        match fixture.store.put(second.clone()).await {
            Err(ChunkError::Full { needed }) => assert_eq!(needed, LONGEST as u64),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(fixture.get(&ChunkHash::of(&second)).await, None);
    assert_eq!(fixture.list().await, BTreeMap::from([(first, LONGEST as u64)]));
    fixture.store.put(Bytes::from(vec![1; LONGEST])).await.expect("what is there needs no room");
    fixture.store.put(Bytes::from(vec![3; ROOM as usize - LONGEST])).await.expect("the very last byte");
    assert_eq!(fixture.store.current_size(), ROOM);
    assert!(matches!(fixture.store.put(Bytes::from_static(b"x")).await, Err(ChunkError::Full { needed: 1 })));
    fixture.store.remove(&first).await.expect("a remove");
    fixture.store.put(second).await.expect("a put");
}

/// A damaged chunk is reported once, then absent and no longer counted, and can be put again.
pub async fn damaged_chunk_is_reported_once_and_then_absent(fixture: Fixture) {
    let damage =
        fixture.damage.as_ref().expect("not checked, as the fixture does not say how to damage a chunk");
    let kept = fixture.put(b"kept").await;
    for _ in 0..3 {
        let hash = fixture.put(b"to be damaged").await;
        damage(&hash);
        assert!(matches!(fixture.store.get(&hash).await, Err(ChunkError::Corrupt(of)) if of == hash));
        assert_eq!(fixture.get(&hash).await, None);
        assert!(!fixture.store.contains(&hash).await.expect("an answer"));
        assert_eq!(fixture.list().await, BTreeMap::from([(kept, 4)]));
    }
}

/// Makes tests of all that a [`ChunkStore`](musicfs_core::ChunkStore) promises.
///
/// Takes a name for the module of tests, and an expression that gives a
/// [`Fixture`](crate::conformance::chunk_store::Fixture); it may await.
#[macro_export]
macro_rules! chunk_store_conformance {
    ($suite:ident, $factory:expr) => {
        $crate::__conformance_suite! { async chunk_store $suite ($factory)
            chunk_put_is_got_under_its_hash
            chunk_never_put_is_absent
            put_again_changes_nothing
            size_and_listing_follow_every_change
            removed_chunk_is_absent_and_freed_once
            puts_of_one_chunk_at_once_count_once
            changes_of_one_chunk_at_once_keep_the_size_exact
            dropped_put_leaves_the_chunk_whole_or_absent
            full_store_says_so_and_keeps_what_it_has
            damaged_chunk_is_reported_once_and_then_absent
        }
    };
}
