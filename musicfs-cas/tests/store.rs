//! What the store does beyond the contract of a chunk store: files, restarts, damage from outside.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::path::Path;

use futures::TryStreamExt;
use musicfs_cas::{CasConfig, CasStore};
use musicfs_core::{ChunkError, ChunkHash, ChunkStore};
use rustix::fs::{CWD, FileType, Mode, mknodat};

async fn open(dir: &Path) -> CasStore {
    CasStore::open(CasConfig::new(dir)).await.unwrap()
}

#[tokio::test]
async fn chunk_file_is_named_by_its_hash_in_the_folder_of_its_first_byte() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let hash = store.put(b"music").await.unwrap();
    let name = hash.to_string();
    let path = dir.path().join(&name[..2]).join(&name);
    assert_eq!(store.chunk_path(&hash), path);
    assert_eq!(fs::read(path).unwrap(), b"music");
}

#[tokio::test]
async fn chunks_and_their_size_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut hashes = Vec::new();
    {
        let store = open(dir.path()).await;
        for n in 0..50u32 {
            hashes.push(store.put(&n.to_le_bytes().repeat(n as usize + 1)).await.unwrap());
        }
        store.remove(&hashes[7]).await.unwrap();
    }
    let store = open(dir.path()).await;
    assert_eq!(store.current_size(), (0..50).map(|n| 4 * (n + 1)).sum::<u64>() - 4 * 8);
    assert_eq!(store.get(&hashes[7]).await.unwrap(), None);
    assert_eq!(store.get(&hashes[49]).await.unwrap().unwrap().len(), 200);
}

#[tokio::test]
async fn start_sweeps_what_was_being_written_and_leaves_what_is_not_ours() {
    let dir = tempfile::tempdir().unwrap();
    let hash = open(dir.path()).await.put(b"kept").await.unwrap();
    let torn = dir.path().join("tmp").join("torn");
    fs::write(&torn, b"half").unwrap();
    let empty = ChunkHash::of(b"emptied by a crash");
    let empty_at = open(dir.path()).await.chunk_path(&empty);
    fs::create_dir_all(empty_at.parent().unwrap()).unwrap();
    fs::write(&empty_at, b"").unwrap();
    let misplaced = dir.path().join(&hash.to_string()[..2]).join("notes.txt");
    fs::write(&misplaced, b"mine").unwrap();
    let store = open(dir.path()).await;
    assert!(!torn.exists() && !empty_at.exists() && misplaced.exists());
    assert_eq!(store.current_size(), 4);
    let listed: Vec<_> = store.list().try_collect().await.unwrap();
    assert_eq!(listed, [(hash, 4)]);
}

#[tokio::test]
async fn folder_of_another_format_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("FORMAT"), "musicfs chunks 99\n").unwrap();
    let error = CasStore::open(CasConfig::new(dir.path())).await.unwrap_err();
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains("another format"), "{source}");
    assert_eq!(fs::read_to_string(dir.path().join("FORMAT")).unwrap(), "musicfs chunks 99\n");
}

#[tokio::test]
async fn damaged_chunk_goes_into_quarantine_and_off_the_sum_whatever_its_new_length() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let other = store.put(b"other").await.unwrap();
    let flipped = [&b"valid audio datA"[..], b"short", b"much longer than it was before", b""];
    for damage in flipped {
        let hash = store.put(b"valid audio data").await.unwrap();
        assert_eq!(store.current_size(), 21);
        fs::write(store.chunk_path(&hash), damage).unwrap();
        assert!(matches!(store.get(&hash).await, Err(ChunkError::Corrupt(of)) if of == hash));
        assert_eq!(store.get(&hash).await.unwrap(), None);
        assert!(!store.contains(&hash).await.unwrap());
        assert_eq!(store.current_size(), 5);
        assert_eq!(fs::read(dir.path().join("quarantine").join(hash.to_string())).unwrap(), damage);
    }
    assert_eq!(store.get(&other).await.unwrap().as_deref(), Some(&b"other"[..]));
    assert_eq!(open(dir.path()).await.current_size(), 5);
}

#[tokio::test]
async fn what_is_no_file_in_the_place_of_a_chunk_is_set_aside_and_the_chunk_stored_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let bytes = &b"valid audio data"[..];
    let hash = store.put(bytes).await.unwrap();
    let path = store.chunk_path(&hash);
    let folder = || {
        fs::create_dir(&path).unwrap();
        fs::write(path.join("in"), "it").unwrap();
    };
    let pipe = || mknodat(CWD, &path, FileType::Fifo, Mode::RUSR, 0).unwrap();
    // One after the other in quarantine, of which each has to give way to the next.
    for (n, replace) in [&folder as &dyn Fn(), &folder, &pipe, &folder].into_iter().enumerate() {
        fs::remove_file(&path).unwrap();
        replace();
        assert!(matches!(store.get(&hash).await, Err(ChunkError::Corrupt(_))), "{n}");
        assert_eq!(store.put(bytes).await.unwrap(), hash);
        assert_eq!(store.get(&hash).await.unwrap().as_deref(), Some(bytes), "{n}");
        assert_eq!(store.current_size(), 16);
    }
    // Also where the store knows nothing of it, or is to remove it.
    fs::remove_file(&path).unwrap();
    folder();
    assert_eq!(store.remove(&hash).await.unwrap(), Some(16));
    assert!(!path.exists());
    folder();
    let store = open(dir.path()).await;
    assert_eq!(store.put(bytes).await.unwrap(), hash);
    assert_eq!(store.get(&hash).await.unwrap().as_deref(), Some(bytes));
}

#[tokio::test]
async fn damage_is_reported_once_however_many_ask() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let hash = store.put(b"valid audio data").await.unwrap();
    fs::write(store.chunk_path(&hash), b"valid audio dat_").unwrap();
    let asked = futures::future::join_all((0..20).map(|_| store.get(&hash))).await;
    assert_eq!(asked.iter().filter(|r| matches!(r, Err(ChunkError::Corrupt(_)))).count(), 1);
    assert_eq!(asked.iter().filter(|r| matches!(r, Ok(None))).count(), 19);
}

#[tokio::test]
async fn chunk_whose_file_was_removed_is_absent_and_put_again_heals_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    for asked_first in [true, false] {
        let hash = store.put(b"data").await.unwrap();
        fs::remove_file(store.chunk_path(&hash)).unwrap();
        if asked_first {
            assert_eq!(store.get(&hash).await.unwrap(), None);
            assert_eq!(store.current_size(), 0);
        }
        assert_eq!(store.put(b"data").await.unwrap(), hash);
        assert_eq!(store.get(&hash).await.unwrap().as_deref(), Some(&b"data"[..]));
        assert_eq!(store.current_size(), 4);
    }
}

#[tokio::test]
async fn put_that_cannot_write_stores_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let hash = ChunkHash::of(b"data");
    // A file where the chunk's folder would be: nothing can be made below it, by any user.
    let first = dir.path().join(&hash.to_string()[..2]);
    fs::write(&first, b"").unwrap();
    assert!(matches!(store.put(b"data").await, Err(ChunkError::Io(_))));
    assert_eq!((store.current_size(), store.contains(&hash).await.unwrap()), (0, false));
    fs::remove_file(&first).unwrap();
    store.put(b"data").await.unwrap();
    assert_eq!(store.current_size(), 4);
}

#[tokio::test]
async fn limit_holds_at_write_time_also_for_many_writes_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = CasStore::open(CasConfig::new(dir.path()).with_max_size(1000)).await.unwrap();
    let puts = (0..40u8).map(|n| {
        let store = store.clone();
        async move { store.put(&[n; 100]).await }
    });
    let done = futures::future::join_all(puts).await;
    assert_eq!(done.iter().filter(|r| r.is_ok()).count(), 10);
    assert!(done.iter().all(|r| matches!(r, Ok(_) | Err(ChunkError::Full { needed: 100 }))));
    assert_eq!(store.current_size(), 1000);
    let kept = *done.iter().flatten().next().unwrap();
    store.remove(&kept).await.unwrap();
    store.put(&[200; 100]).await.unwrap();
}

#[tokio::test]
async fn chunk_of_no_or_too_many_bytes_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    assert!(matches!(store.put(b"").await, Err(ChunkError::Io(_))));
    assert!(matches!(store.put(&vec![0; 16 * 1024 * 1024 + 1]).await, Err(ChunkError::Io(_))));
}
