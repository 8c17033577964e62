//! No statement goes through a table but those that are meant to.

use musicfs_core::{FileQuery, MetaDb, OriginId};
use rusqlite::Connection;

use super::{Fixture, place, put, track};
use crate::database::sql;

#[test]
fn every_statement_goes_by_an_index() {
    check(&Fixture::new());
}

#[test]
fn every_statement_goes_by_an_index_after_a_close_with_few_files_as_well() {
    let fixture = Fixture::new();
    let file = track("a/x.flac");
    fixture.apply(1, vec![put(&file), place(file.id, "A/x.flac", 0)]);
    fixture.apply(2, vec![put(&track("a/y.flac"))]);
    fixture.db.checkpoint().unwrap();
    check(&fixture.reopen());
}

#[test]
fn every_statement_goes_by_an_index_where_an_older_version_left_statistics() {
    let fixture = Fixture::new();
    fixture.apply(1, vec![put(&track("a/x.flac"))]);
    let older = Connection::open(fixture.path()).unwrap();
    // Of a single row, which is as well gone through.
    let left = "ANALYZE; UPDATE sqlite_stat1 SET stat = '1'; PRAGMA user_version = 5";
    older.execute_batch(left).unwrap();
    drop(older);
    let fixture = fixture.reopen();
    check(&fixture);
    check_by(&fixture.db.writer.lock().connection);
}

fn check(fixture: &Fixture) {
    // Whoever asks has it made.
    fixture.db.files(&FileQuery::OfSize(OriginId::from("nas"), 1), None, 1).unwrap();
    check_by(&Connection::open(fixture.path()).unwrap());
}

fn check_by(db: &Connection) {
    let statements = [
        sql::LOOKUP,
        sql::LIST,
        sql::DIR_NODE,
        sql::FILE_NODE,
        sql::NODE_AT,
        sql::HOLDER,
        sql::DIR_AT,
        sql::ANY_CHILD,
        sql::DELETE_NODE,
        sql::SET_ATTRIBUTES,
        sql::SET_WANTED,
        sql::GROUP_AT,
        sql::GROUP_WANTING,
        sql::SET_CONTENT,
        sql::HAND_OVER,
        sql::SHARING_AT,
        sql::FILES_SHARING,
        sql::PLACE_OF,
        sql::SET_RANK,
        sql::TOUCH_DIR,
        sql::FIND_ORIGIN,
        sql::FIND_FOLDER,
        sql::PRUNE_FOLDER,
        sql::FILE_ROW,
        sql::MOVE_FILE,
        sql::DELETE_FILE,
        sql::DETAIL,
        sql::UPDATE_DETAIL,
        sql::DELETE_DETAIL,
        sql::FILE,
        sql::FILES,
        sql::FILES_OF_ORIGIN,
        sql::FILES_OF_FOLDER,
        sql::FILES_OF_SIZE,
        sql::FILES_OF_ALBUM,
        sql::FILES_UNPARSED,
        sql::FILES_MISSING,
        sql::FILES_GUESSED,
        sql::FILES_SHOWN,
        sql::MULTI_DISC,
        sql::MANIFEST,
        sql::DELETE_MANIFEST,
        sql::NOTE,
        sql::DELETE_NOTE,
        sql::CHANGES,
        sql::DELETE_CHANGES,
        sql::STATE,
        sql::SET_STATE,
        sql::SET_CLEAN,
    ];
    // Those that read all there is, in order or by an index of nothing else.
    let whole = [sql::MULTI_DISC, sql::FILES_GUESSED];
    for statement in statements {
        let plan = plan(db, statement);
        assert!(!plan.contains("TEMP B-TREE"), "{statement}\n{plan}");
        assert!(!plan.contains("SCAN") || whole.contains(&statement), "{statement}\n{plan}");
    }
    assert!(plan(db, sql::LIST).contains("SEARCH n USING PRIMARY KEY (parent=? AND cookie>?)"));
    assert!(plan(db, sql::MULTI_DISC).contains("USING COVERING INDEX files_of_later_discs"));
    assert!(plan(db, sql::GROUP_WANTING).contains("USING INDEX nodes_by_wanted"));
    assert!(plan(db, sql::SHARING_AT).contains("USING INDEX files_sharing"));
    assert!(plan(db, sql::FILES_GUESSED).contains("manifests_guessed"));
    assert!(plan(db, sql::FILES_OF_SIZE).contains("USING INDEX files_by_size (size=? AND id>?)"));
    assert!(plan(db, sql::SHARED).contains("files_sharing"));
    // A pass reads all the files of an origin, and no wide row with them.
    assert_eq!(plan(db, sql::KNOWN).matches("SCAN files\n").count(), 1);
    assert_eq!(plan(db, sql::OLDEST_CHANGES), "SCAN changes\n");
}

fn plan(db: &Connection, statement: &str) -> String {
    let mut explain = db.prepare(&format!("EXPLAIN QUERY PLAN {statement}")).unwrap();
    for n in 1..=explain.parameter_count() {
        explain.raw_bind_parameter(n, 1).unwrap();
    }
    let mut rows = explain.raw_query();
    let mut plan = String::new();
    while let Some(row) = rows.next().unwrap() {
        plan.push_str(&row.get::<_, String>(3).unwrap());
        plan.push('\n');
    }
    plan
}
