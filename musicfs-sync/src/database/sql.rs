//! The catalogue's schema and every statement on it.
//!
//! # Layout
//! * `files` is what a pass over an origin goes through: narrow rows, so that a million are read in well under a
//!   second. `details` has the wide rest. Both are in the order of arrival, because ids are hashes: rows in the
//!   order of hashes would touch a page of disk for every file. `files_by_id` is all that does.
//! * `nodes` is the tree, an entry a row, clustered by directory and cookie: listing a directory is one range.
//!   The root is a row too: its own parent, with cookie 0 and an empty name, which no listing and no lookup meets.
//!   A file's row in `files` names its entry; a directory's entry is found by `nodes_of_dirs`.
//! * A file that shares the entry of a copy which leads has `sharing` set and names the same entry; `nodes.ino` is
//!   the leader's. `files_sharing` holds no other rows, and `nodes_by_wanted` only entries that do not stand where
//!   they want to, so that a library without copies pays nothing for either.
//! * `changes` has one row for each batch that changed something: all its changes in one blob.
//! * `state` is one row: counters that go on, sums kept as batches go, and whether the last user closed in order.
//!
//! * `files_by_size` is there only while somebody asks by size (`sizes.rs`).
//!
//! What SQLite knows of the numbers of rows and of their values is never recorded: a catalogue that was closed when it
//! was small would be gone through row by row when it has grown, until it is closed again. Each statement has one way
//! that is right for any number of rows.
//!
//! Migrations are only ever appended: a file in the field may stand at any of them.

use super::store::Schema;

/// "MFSC": tells a catalogue from other SQLite files.
const APPLICATION_ID: i32 = 0x4d46_5343;

pub(super) const SCHEMA: Schema = Schema {
    application_id: APPLICATION_ID,
    migrations: &[FIRST, TIME_OF_GOING, COPIES, GUESSES, SIZES, LESS],
};

/// How the catalogue is journalled: readers never wait for the writer, and a batch is not synced by itself (a kill
/// loses nothing, a power cut at most the last batches, never consistency). The log is copied back at 32 MiB, so
/// that a page touched by many batches is written once for all of them.
pub(super) const TUNE: &str = "
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = NORMAL;
    PRAGMA wal_autocheckpoint = 8192;
    PRAGMA journal_size_limit = 33554432;
    PRAGMA temp_store = MEMORY;
    PRAGMA mmap_size = 0;
    PRAGMA cache_size = -16384;
";

/// As [`TUNE`], for a reader. Its cache is small because the system's page cache is behind it. Nothing is mapped
/// into memory: it would count as the daemon's, and a file cut short by someone would kill the process.
pub(super) const TUNE_READER: &str = "
    PRAGMA query_only = ON;
    PRAGMA temp_store = MEMORY;
    PRAGMA mmap_size = 0;
    PRAGMA cache_size = -1024;
";

const FIRST: &str = "
    CREATE TABLE state(
        id INTEGER PRIMARY KEY CHECK (id = 1),
        revision INTEGER NOT NULL,        -- batches applied
        cookie INTEGER NOT NULL,          -- the highest cookie ever given
        seq INTEGER NOT NULL,             -- the highest key ever given in `files` and `details`
        changes INTEGER NOT NULL,         -- changes kept in `changes`
        pruned INTEGER NOT NULL,          -- the last revision whose changes are not kept
        files INTEGER NOT NULL,
        bytes INTEGER NOT NULL,
        tracks INTEGER NOT NULL,
        problems INTEGER NOT NULL,
        missing INTEGER NOT NULL,
        dirs INTEGER NOT NULL,
        clean INTEGER NOT NULL            -- closed in order, and not written since
    ) STRICT;
    INSERT INTO state VALUES (1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);

    CREATE TABLE origins(
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE
    ) STRICT;

    CREATE TABLE folders(
        id INTEGER PRIMARY KEY,
        origin INTEGER NOT NULL,
        path BLOB NOT NULL,
        UNIQUE(origin, path)
    ) STRICT;

    CREATE TABLE files(
        seq INTEGER PRIMARY KEY,
        id INTEGER NOT NULL,              -- FileId
        origin INTEGER NOT NULL,          -- origins.id
        size INTEGER NOT NULL,
        mtime INTEGER,
        etag TEXT,
        kind INTEGER NOT NULL,
        state INTEGER NOT NULL,
        folder INTEGER NOT NULL,          -- folders.id
        parent INTEGER,                   -- nodes.parent and
        cookie INTEGER,                   -- nodes.cookie, while it is shown
        album INTEGER,                    -- AlbumKey, when there is a disc number too
        disc INTEGER
    ) STRICT;
    CREATE UNIQUE INDEX files_by_id ON files(id);
    CREATE INDEX files_by_folder ON files(folder, id);
    CREATE INDEX files_by_album ON files(album, id) WHERE disc IS NOT NULL;
    CREATE INDEX files_of_later_discs ON files(album, disc) WHERE disc > 1;
    CREATE INDEX files_unparsed ON files(id) WHERE kind = 2;
    CREATE INDEX files_missing ON files(id) WHERE state = 2;

    CREATE TABLE details(
        seq INTEGER PRIMARY KEY,          -- files.seq
        name BLOB NOT NULL,
        first_seen INTEGER NOT NULL,
        format TEXT,
        problem TEXT,
        audio TEXT                        -- AudioMeta as JSON
    ) STRICT;

    CREATE TABLE nodes(
        parent INTEGER NOT NULL,          -- Ino of the directory
        cookie INTEGER NOT NULL,
        ino INTEGER NOT NULL,
        size INTEGER NOT NULL,
        mtime INTEGER NOT NULL,
        name BLOB NOT NULL,
        wanted BLOB,                      -- the path that was asked for, where it is not the path it has
        PRIMARY KEY(parent, cookie)
    ) STRICT, WITHOUT ROWID;
    CREATE UNIQUE INDEX nodes_by_name ON nodes(parent, name);
    CREATE UNIQUE INDEX nodes_of_dirs ON nodes(ino) WHERE ino < 4611686018427387904;
    INSERT INTO nodes VALUES (1, 0, 1, 0, 0, x'', NULL);

    CREATE TABLE changes(
        revision INTEGER PRIMARY KEY,
        count INTEGER NOT NULL,
        data BLOB NOT NULL
    ) STRICT;

    CREATE TABLE manifests(
        id INTEGER PRIMARY KEY,           -- FileId
        size INTEGER NOT NULL,
        mtime INTEGER,
        etag TEXT,
        data BLOB NOT NULL
    ) STRICT;

    CREATE TABLE notes(
        key TEXT PRIMARY KEY,
        value TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;
";

/// When a file was found to be missing.
const TIME_OF_GOING: &str = "
    ALTER TABLE details ADD COLUMN gone INTEGER;
    UPDATE details SET gone = CAST(strftime('%s', 'now') AS INTEGER) * 1000000000
    WHERE seq IN (SELECT seq FROM files WHERE state = 2);
";

/// Copies. `content` is the [`ContentKey`](musicfs_core::ContentKey) of a file, or of all the files of an entry.
const COPIES: &str = "
    ALTER TABLE origins ADD COLUMN rank INTEGER;
    ALTER TABLE files ADD COLUMN content INTEGER;
    ALTER TABLE files ADD COLUMN sharing INTEGER;
    ALTER TABLE nodes ADD COLUMN content INTEGER;
    CREATE INDEX files_sharing ON files(parent, cookie) WHERE sharing = 1;
    CREATE INDEX nodes_by_wanted ON nodes(wanted, content) WHERE wanted IS NOT NULL;
";

/// Which manifests have guesses. `guessed` is the number of bytes.
const GUESSES: &str = "
    ALTER TABLE manifests ADD COLUMN guessed INTEGER NOT NULL DEFAULT 0;
    CREATE INDEX manifests_guessed ON manifests(id) WHERE guessed > 0;
";

/// Made `files_by_size`, which is no longer there from the start.
const SIZES: &str = "";

/// What is made when it is needed, and what is not to be recorded.
const LESS: &str = "
    DROP INDEX IF EXISTS files_by_size;
    DROP TABLE IF EXISTS sqlite_stat1;
    DROP TABLE IF EXISTS sqlite_stat4;
";

/// What files may be the same as one that came: without the origin, so that nothing but this goes by it.
pub(super) const INDEX_SIZES: &str = "CREATE INDEX IF NOT EXISTS files_by_size ON files(size, id)";
pub(super) const DROP_SIZES: &str = "DROP INDEX IF EXISTS files_by_size";
/// Where what is sorted is kept: in a file, as that of ten million files would be half a gigabyte.
pub(super) const SORT_IN_FILE: &str = "PRAGMA temp_store = FILE";
pub(super) const SORT_IN_MEMORY: &str = "PRAGMA temp_store = MEMORY";

pub(super) const STATE: &str = "SELECT revision, cookie, seq, changes, pruned, files, bytes, tracks, problems, \
     missing, dirs, clean FROM state WHERE id = 1";
pub(super) const SET_STATE: &str = "UPDATE state SET revision = ?1, cookie = ?2, seq = ?3, changes = ?4, \
     pruned = ?5, files = ?6, bytes = ?7, tracks = ?8, problems = ?9, missing = ?10, dirs = ?11, clean = ?12 \
     WHERE id = 1";
pub(super) const SET_CLEAN: &str = "UPDATE state SET clean = ?1 WHERE id = 1";

// The tree. `ino < 4611686018427387904` (bit 62 clear) holds for directories and lets `nodes_of_dirs` be used.

macro_rules! node_columns {
    () => {
        "n.ino, n.parent, n.name, n.cookie, n.size, n.mtime"
    };
}
pub(super) const LOOKUP: &str =
    concat!("SELECT ", node_columns!(), " FROM nodes n WHERE n.parent = ?1 AND n.name = ?2");
pub(super) const LIST: &str = concat!(
    "SELECT ",
    node_columns!(),
    " FROM nodes n WHERE n.parent = ?1 AND n.cookie > ?2 ORDER BY n.cookie LIMIT ?3"
);
pub(super) const DIR_NODE: &str =
    concat!("SELECT ", node_columns!(), " FROM nodes n WHERE n.ino = ?1 AND n.ino < 4611686018427387904");
pub(super) const FILE_NODE: &str = concat!(
    "SELECT ",
    node_columns!(),
    " FROM files f CROSS JOIN nodes n ON n.parent = f.parent AND n.cookie = f.cookie WHERE f.id = ?1"
);
pub(super) const NODE_AT: &str = "SELECT name, wanted, ino FROM nodes WHERE parent = ?1 AND cookie = ?2";
pub(super) const GROUP_AT: &str =
    "SELECT cookie, ino FROM nodes WHERE parent = ?1 AND name = ?2 AND wanted IS NULL AND content = ?3";
pub(super) const GROUP_WANTING: &str =
    "SELECT parent, cookie, ino FROM nodes WHERE wanted = ?1 AND content = ?2";
pub(super) const SET_CONTENT: &str = "UPDATE nodes SET content = ?3 WHERE parent = ?1 AND cookie = ?2";
pub(super) const HAND_OVER: &str =
    "UPDATE nodes SET ino = ?3, size = ?4, mtime = ?5 WHERE parent = ?1 AND cookie = ?2";
pub(super) const HOLDER: &str = "SELECT ino FROM nodes WHERE parent = ?1 AND name = ?2";
pub(super) const DIR_AT: &str =
    "SELECT parent, cookie, name FROM nodes WHERE ino = ?1 AND ino < 4611686018427387904";
pub(super) const ANY_CHILD: &str = "SELECT cookie FROM nodes WHERE parent = ?1 AND cookie > 0 LIMIT 1";
pub(super) const INSERT_NODE: &str = "INSERT INTO nodes(parent, cookie, ino, size, mtime, name, wanted, \
     content) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT(parent, name) DO NOTHING";
pub(super) const DELETE_NODE: &str = "DELETE FROM nodes WHERE parent = ?1 AND cookie = ?2";
pub(super) const SET_ATTRIBUTES: &str =
    "UPDATE nodes SET size = ?3, mtime = ?4 WHERE parent = ?1 AND cookie = ?2";
pub(super) const SET_WANTED: &str =
    "UPDATE nodes SET wanted = ?3, content = ?4 WHERE parent = ?1 AND cookie = ?2";
pub(super) const TOUCH_DIR: &str = "UPDATE nodes SET mtime = ?2 WHERE ino = ?1 AND ino < 4611686018427387904";

// Files.

pub(super) const FIND_ORIGIN: &str = "SELECT id FROM origins WHERE name = ?1";
pub(super) const INSERT_ORIGIN: &str = "INSERT INTO origins(name) VALUES (?1) RETURNING id";
pub(super) const RANKS: &str = "SELECT id, rank FROM origins";
pub(super) const RANKS_BY_NAME: &str = "SELECT name, rank FROM origins";
pub(super) const FORGET_RANKS: &str = "UPDATE origins SET rank = NULL";
pub(super) const SET_RANK: &str = "UPDATE origins SET rank = ?2 WHERE id = ?1";
pub(super) const FIND_FOLDER: &str = "SELECT id FROM folders WHERE origin = ?1 AND path = ?2";
pub(super) const INSERT_FOLDER: &str = "INSERT INTO folders(origin, path) VALUES (?1, ?2) RETURNING id";
pub(super) const PRUNE_FOLDER: &str =
    "DELETE FROM folders WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM files WHERE folder = ?1)";

pub(super) const FILE_ROW: &str = "SELECT seq, origin, size, mtime, etag, kind, state, folder, parent, cookie, \
     album, disc, content, sharing FROM files WHERE id = ?1";
pub(super) const INSERT_FILE: &str = "INSERT INTO files(seq, id, origin, size, mtime, etag, kind, state, folder, \
     parent, cookie, album, disc, content, sharing) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)";
pub(super) const MOVE_FILE: &str = "UPDATE files SET parent = ?2, cookie = ?3, sharing = ?4 WHERE seq = ?1";
pub(super) const SHARING_AT: &str = "SELECT id FROM files WHERE parent = ?1 AND cookie = ?2 AND sharing = 1";
pub(super) const SHARED: &str = "SELECT DISTINCT parent, cookie FROM files WHERE sharing = 1 ORDER BY cookie";
pub(super) const PLACE_OF: &str = "SELECT parent, cookie FROM files WHERE id = ?1";
pub(super) const DELETE_FILE: &str = "DELETE FROM files WHERE seq = ?1";
pub(super) const DETAIL: &str = "SELECT name, format, problem, audio FROM details WHERE seq = ?1";
pub(super) const INSERT_DETAIL: &str =
    "INSERT INTO details(seq, name, first_seen, format, problem, audio) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
pub(super) const UPDATE_DETAIL: &str =
    "UPDATE details SET format = ?2, problem = ?3, audio = ?4 WHERE seq = ?1";
pub(super) const SET_NAME: &str = "UPDATE details SET name = ?2 WHERE seq = ?1";
pub(super) const SET_GONE: &str = "UPDATE details SET gone = ?2 WHERE seq = ?1";
pub(super) const GONE: &str = "SELECT d.gone FROM files f CROSS JOIN details d ON d.seq = f.seq \
     WHERE f.id = ?1 AND f.state = 2";
pub(super) const DELETE_DETAIL: &str = "DELETE FROM details WHERE seq = ?1";

/// Of copies, which share an entry, that which leads has it (`has_entry`).
macro_rules! files {
    ($($condition:literal)*) => {
        concat!(
            "SELECT f.id, o.name, g.path, d.name, f.size, f.mtime, f.etag, f.kind, f.state, d.format, d.problem, \
             d.audio, f.parent, f.cookie, f.seq, f.parent IS NOT NULL AND f.sharing IS NOT 1 AS has_entry \
             FROM files f CROSS JOIN folders g ON g.id = f.folder CROSS JOIN origins o ON o.id = f.origin \
             CROSS JOIN details d ON d.seq = f.seq WHERE ",
            $($condition,)*
        )
    };
}
/// The end of every query for a page: ids above ?1, at most ?2.
macro_rules! page {
    ($($condition:literal)*) => {
        files!($($condition)* " f.id > ?1 ORDER BY f.id LIMIT ?2")
    };
}
pub(super) const FILE: &str = files!("f.id = ?1");
pub(super) const FILES_SHARING: &str = files!("f.parent = ?1 AND f.cookie = ?2 AND f.sharing = 1");
pub(super) const FILES: &str = page!("");
pub(super) const FILES_OF_ORIGIN: &str = page!("f.origin = (SELECT id FROM origins WHERE name = ?3) AND ");
pub(super) const FILES_OF_FOLDER: &str = page!(
    "f.folder = (SELECT id FROM folders WHERE path = ?4 AND \
     origin = (SELECT id FROM origins WHERE name = ?3)) AND "
);
/// ?4 is the folder, ?5 and ?6 the bounds of what begins with its name and a slash.
pub(super) const FILES_UNDER: &str = page!(
    "f.folder IN (SELECT id FROM folders WHERE origin = (SELECT id FROM origins WHERE name = ?3) AND \
     (path = ?4 OR (path >= ?5 AND path < ?6))) AND "
);
pub(super) const FILES_OF_SIZE: &str =
    page!("f.size = ?4 AND f.origin = (SELECT id FROM origins WHERE name = ?3) AND ");
pub(super) const FILES_OF_ALBUM: &str = page!("f.album = ?3 AND f.disc IS NOT NULL AND ");
pub(super) const FILES_UNPARSED: &str = page!("f.kind = 2 AND f.state <> 3 AND ");
pub(super) const FILES_MISSING: &str = page!("f.state = 2 AND ");
pub(super) const FILES_GUESSED: &str =
    page!("f.state = 1 AND f.id IN (SELECT id FROM manifests WHERE guessed > 0) AND ");
/// In the order of the rows, so that no page of the tables is read twice.
pub(super) const FILES_SHOWN: &str = files!("f.seq > ?1 AND has_entry ORDER BY f.seq LIMIT ?2");
pub(super) const KNOWN: &str = "SELECT id, size, mtime, etag, kind, state FROM files \
     WHERE origin = (SELECT id FROM origins WHERE name = ?1)";
pub(super) const MULTI_DISC: &str = "SELECT DISTINCT album FROM files WHERE disc > 1";

// What is remembered beside.

pub(super) const MANIFEST: &str = "SELECT size, mtime, etag, data FROM manifests WHERE id = ?1";
pub(super) const MANIFESTS: &str =
    "SELECT size, mtime, etag, data, id FROM manifests WHERE id > ?1 ORDER BY id LIMIT ?2";
pub(super) const PUT_MANIFEST: &str =
    "INSERT OR REPLACE INTO manifests(id, size, mtime, etag, data, guessed) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
pub(super) const DELETE_MANIFEST: &str = "DELETE FROM manifests WHERE id = ?1";
pub(super) const NOTE: &str = "SELECT value FROM notes WHERE key = ?1";
pub(super) const PUT_NOTE: &str = "INSERT OR REPLACE INTO notes(key, value) VALUES (?1, ?2)";
pub(super) const DELETE_NOTE: &str = "DELETE FROM notes WHERE key = ?1";
pub(super) const CHANGES: &str =
    "SELECT revision, count, data FROM changes WHERE revision > ?1 ORDER BY revision";
pub(super) const INSERT_CHANGES: &str = "INSERT INTO changes(revision, count, data) VALUES (?1, ?2, ?3)";
pub(super) const OLDEST_CHANGES: &str = "SELECT revision, count FROM changes ORDER BY revision LIMIT 1";
pub(super) const DELETE_CHANGES: &str = "DELETE FROM changes WHERE revision = ?1";
