//! What a catalogue that turns out to be damaged at opening leads to. A binary of its own, because failpoints are
//! the whole process's.

#![cfg(feature = "failpoints")]

use musicfs_core::{MetaDb, Revision, SystemClock};
use musicfs_sync::{Database, DatabaseError};

#[test]
fn catalogue_that_opens_as_corrupt_is_rebuilt() {
    let scenario = fail::FailScenario::setup();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("catalogue.db");
    drop(Database::open(&path).unwrap());
    fail::cfg("db-open-corrupt", "return").unwrap();
    let refused = Database::open_with_integrity_check(&path);
    assert!(matches!(refused, Err(DatabaseError::Corrupt { .. })));
    let (db, quarantine) = Database::open_or_rebuild(&path, &SystemClock::new()).unwrap();
    assert!(quarantine.unwrap().exists());
    assert_eq!(db.revision().unwrap(), Revision(0));
    drop(db);
    fail::remove("db-open-corrupt");
    let (_, quarantine) = Database::open_or_rebuild(&path, &SystemClock::new()).unwrap();
    assert_eq!(quarantine, None);
    scenario.teardown();
}
