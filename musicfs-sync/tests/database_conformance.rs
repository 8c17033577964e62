//! The catalogue on SQLite keeps the contract of `MetaDb`.

#![expect(clippy::unwrap_used, reason = "a fixture that cannot be made fails its test")]

use musicfs_sync::Database;
use musicfs_test_utils::conformance::meta_db::Fixture;
use musicfs_test_utils::meta_db_conformance;

fn fixture() -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let db = Database::open(&dir.path().join("catalogue.db")).unwrap();
    Fixture::new(db).keeping(dir)
}

meta_db_conformance!(database, fixture());
