//! A folder of this machine keeps the contract of an origin, by itself and through wrappers.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::sync::Arc;

use musicfs_core::Origin;
use musicfs_origins::LocalOrigin;
use musicfs_test_utils::conformance::origin::{Fixture, sample_files};
use musicfs_test_utils::{FailMode, FaultyOrigin, origin_conformance};

fn fixture(wrap: impl FnOnce(LocalOrigin) -> Arc<dyn Origin>) -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    for (path, bytes) in sample_files() {
        let path = dir.path().join(path.as_path());
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    Fixture::new(wrap(LocalOrigin::new("disk", dir.path())), sample_files()).keeping(dir)
}

origin_conformance!(local_origin, fixture(|local| Arc::new(local)));
origin_conformance!(
    local_origin_behind_a_link,
    fixture(|local| {
        let link = local.root().with_extension("link");
        std::os::unix::fs::symlink(local.root(), &link).unwrap();
        Arc::new(LocalOrigin::new("linked", link))
    })
);
origin_conformance!(
    healthy_faulty_origin_over_local,
    fixture(|local| Arc::new(FaultyOrigin::new(local, FailMode::Healthy)))
);
