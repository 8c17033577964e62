//! The origin keeps the contract, and takes an archive that is away, cut or replaced for what it is.

use std::fs;
use std::path::Path;

use bytes::Bytes;
use futures::StreamExt;
use musicfs_core::{ByteRange, Origin, OriginErrorKind, OriginPath, ScanRequest};
use musicfs_test_utils::conformance::origin::{Fixture, sample_files};
use musicfs_test_utils::origin_conformance;
use tar_origin::TarOrigin;

fn pack(archive: &Path, mtime: u64, files: &[(OriginPath, Bytes)]) {
    let mut builder = tar::Builder::new(fs::File::create(archive).unwrap());
    for (path, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mtime(mtime);
        builder.append_data(&mut header, path.as_path(), &bytes[..]).unwrap();
    }
    builder.finish().unwrap();
}

fn fixture() -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let archive = dir.path().join("music.tar");
    pack(&archive, 1_000_000_000, &sample_files());
    Fixture::new(TarOrigin::new("tar", archive), sample_files()).keeping(dir)
}

origin_conformance!(archive, fixture());

async fn listing(origin: &TarOrigin) -> Result<usize, OriginErrorKind> {
    let pages: Vec<_> = origin.scan(ScanRequest::all()).collect().await;
    pages.into_iter().map(|page| page.map(|page| page.entries.len()).map_err(|e| e.kind)).sum()
}

#[tokio::test]
async fn archive_that_is_cut_or_away_is_unavailable_and_not_empty() {
    let dir = tempfile::tempdir().unwrap();
    let archive = dir.path().join("music.tar");
    let origin = TarOrigin::new("tar", &archive);
    pack(&archive, 1, &sample_files());
    assert_eq!(listing(&origin).await, Ok(sample_files().len()));
    for len in [40_960, 100, 0] {
        fs::File::options().write(true).open(&archive).unwrap().set_len(len).unwrap();
        assert_eq!(listing(&origin).await, Err(OriginErrorKind::Unavailable), "{len}");
    }
    fs::remove_file(&archive).unwrap();
    assert_eq!(listing(&origin).await, Err(OriginErrorKind::Unavailable));
    let error = origin.stat(&OriginPath::new("top level.flac").unwrap()).await.unwrap_err();
    assert_eq!(error.kind, OriginErrorKind::Unavailable);
}

#[tokio::test]
async fn version_of_a_replaced_archive_is_changed() {
    let dir = tempfile::tempdir().unwrap();
    let archive = dir.path().join("music.tar");
    let origin = TarOrigin::new("tar", &archive);
    let path = OriginPath::new("song.flac").unwrap();
    pack(&archive, 1, &[(path.clone(), "old".into())]);
    let old = origin.stat(&path).await.unwrap().version;
    assert_eq!(origin.read(&path, &old, ByteRange::new(0, 9)).await.unwrap(), "old");
    pack(&archive, 2, &[(path.clone(), "new".into()), (OriginPath::new("more").unwrap(), "more".into())]);
    let error = origin.read(&path, &old, ByteRange::new(0, 9)).await.unwrap_err();
    assert_eq!(error.kind, OriginErrorKind::Changed);
}
