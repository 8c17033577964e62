//! Queries. Each sees one state of the catalogue: it is one statement, or a transaction around several.

use std::collections::HashMap;

use musicfs_core::{
    AlbumKey, Changes, ChunkManifest, Cookie, FileId, FileMeta, FilePage, FileQuery, FileVersion, Ino,
    KnownFile, Mark, MarkedFile, Name, Node, OriginId, OriginPath, ROOT_INODE, Revision, SavedManifest,
    ShownPage, Standing, UnixNanos, VirtualPath,
};
use rusqlite::{Connection, OptionalExtension, Params, Row};

use super::error::{Result, damaged};
use super::rows::{
    State, audio_of, cookie_value, file_id_of, format_of, ino_of, ino_value, kind_of, manifest_of, name_of,
    node_of, state_of, version_of,
};
use super::{log, sql};

/// More names than any path in the tree has; a longer way up goes in circles.
const DEEPEST: usize = 4096;

pub(super) fn lookup(db: &Connection, parent: Ino, name: &[u8]) -> Result<Option<Node>> {
    if name.is_empty() {
        return Ok(None);
    }
    one_node(db, sql::LOOKUP, (ino_value(parent), name))
}

pub(super) fn node(db: &Connection, ino: Ino) -> Result<Option<Node>> {
    match ino.file_id() {
        // The entry of a copy is its leader's.
        Some(id) => Ok(one_node(db, sql::FILE_NODE, [id.raw()])?.filter(|node| node.ino == ino)),
        None => one_node(db, sql::DIR_NODE, [ino_value(ino)]),
    }
}

fn one_node(db: &Connection, sql: &str, params: impl Params) -> Result<Option<Node>> {
    let mut statement = db.prepare_cached(sql)?;
    let mut rows = statement.query(params)?;
    rows.next()?.map(node_of).transpose()
}

pub(super) fn list(db: &Connection, dir: Ino, after: Cookie, limit: usize) -> Result<Vec<Node>> {
    let mut statement = db.prepare_cached(sql::LIST)?;
    let mut rows = statement.query((ino_value(dir), cookie_value(after), sql_limit(limit)))?;
    let mut nodes = Vec::new();
    while let Some(row) = rows.next()? {
        nodes.push(node_of(row)?);
    }
    Ok(nodes)
}

pub(super) fn file(db: &Connection, id: FileId) -> Result<Option<FileMeta>> {
    let tx = db.unchecked_transaction()?;
    let mut reader = FileReader::new(&tx);
    let mut statement = tx.prepare_cached(sql::FILE)?;
    let mut rows = statement.query([id.raw()])?;
    rows.next()?.map(|row| reader.file(row)).transpose()
}

pub(super) fn copies(db: &Connection, id: FileId) -> Result<Vec<FileMeta>> {
    let tx = db.unchecked_transaction()?;
    let place: Option<(Option<i64>, Option<i64>)> = tx
        .prepare_cached(sql::PLACE_OF)?
        .query_row([id.raw()], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let Some((Some(parent), Some(cookie))) = place else { return Ok(Vec::new()) };
    let leader: Option<i64> =
        tx.prepare_cached(sql::NODE_AT)?.query_row((parent, cookie), |row| row.get(2)).optional()?;
    let leader = leader.and_then(|ino| ino_of(ino).file_id());
    let leader = leader.ok_or_else(|| damaged("a file has lost its entry in the tree"))?;
    let mut reader = FileReader::new(&tx);
    let mut files = reader.page(sql::FILE, [leader.raw()])?;
    files.extend(reader.page(sql::FILES_SHARING, (parent, cookie))?);
    if files.len() > 1 {
        let mut statement = tx.prepare_cached(sql::RANKS_BY_NAME)?;
        let ranks = statement.query_map([], |row| Ok((row.get(0)?, row.get::<_, Option<u32>>(1)?)))?;
        let ranks: HashMap<String, Option<u32>> = ranks.collect::<rusqlite::Result<_>>()?;
        let rank = |file: &FileMeta| ranks.get(file.origin.as_str()).copied().flatten().unwrap_or(u32::MAX);
        files.sort_by_key(|file| (Standing::new(file.state, rank(file)), file.id));
    }
    Ok(files)
}

pub(super) fn files(
    db: &Connection,
    query: &FileQuery,
    after: Option<FileId>,
    limit: usize,
) -> Result<FilePage> {
    let after = after.map_or(-1, FileId::raw);
    // One more than asked for tells whether there is a next page.
    let most = sql_limit(limit.saturating_add(1));
    let tx = db.unchecked_transaction()?;
    let mut reader = FileReader::new(&tx);
    let mut files = match query {
        FileQuery::All => reader.page(sql::FILES, (after, most)),
        FileQuery::Origin(origin) => reader.page(sql::FILES_OF_ORIGIN, (after, most, origin.as_str())),
        FileQuery::Folder(origin, folder) => {
            reader.page(sql::FILES_OF_FOLDER, (after, most, origin.as_str(), folder.as_bytes()))
        }
        FileQuery::Under(origin, folder) if folder.is_root() => {
            reader.page(sql::FILES_OF_ORIGIN, (after, most, origin.as_str()))
        }
        FileQuery::Under(origin, folder) => {
            let path = folder.as_bytes();
            // '0' is the byte after '/'.
            let (from, to) = ([path, b"/"].concat(), [path, b"0"].concat());
            reader.page(sql::FILES_UNDER, (after, most, origin.as_str(), path, from, to))
        }
        FileQuery::OfSize(origin, size) => {
            reader.page(sql::FILES_OF_SIZE, (after, most, origin.as_str(), size.cast_signed()))
        }
        FileQuery::DiscsOf(album) => reader.page(sql::FILES_OF_ALBUM, (after, most, album.raw())),
        FileQuery::Problems => reader.page(sql::FILES_UNPARSED, (after, most)),
        FileQuery::Missing => reader.page(sql::FILES_MISSING, (after, most)),
        FileQuery::Guessed => reader.page(sql::FILES_GUESSED, (after, most)),
    }?;
    let more = files.len() > limit;
    files.truncate(limit);
    let next = files.last().map(|file| file.id).filter(|_| more);
    Ok(FilePage { files, next })
}

pub(super) fn shown(db: &Connection, after: Option<Mark>, limit: usize) -> Result<ShownPage> {
    let tx = db.unchecked_transaction()?;
    let mut reader = FileReader::new(&tx);
    let mut statement = tx.prepare_cached(sql::FILES_SHOWN)?;
    // One more than asked for tells whether there is a next page.
    let mut rows = statement.query((after.map_or(0, |mark| mark.0), sql_limit(limit.saturating_add(1))))?;
    let (mut files, mut last) = (Vec::new(), None);
    while let Some(row) = rows.next()? {
        if files.len() == limit {
            return Ok(ShownPage { files, last, next: last });
        }
        files.push(reader.file(row)?);
        last = Some(Mark(row.get(14)?));
    }
    Ok(ShownPage { files, last, next: None })
}

pub(super) fn marked(db: &Connection, ids: &[FileId]) -> Result<Vec<MarkedFile>> {
    let tx = db.unchecked_transaction()?;
    let mut reader = FileReader::new(&tx);
    let mut statement = tx.prepare_cached(sql::FILE)?;
    let mut files = Vec::with_capacity(ids.len());
    for id in ids {
        let mut rows = statement.query([id.raw()])?;
        let Some(row) = rows.next()? else { continue };
        let shown = if row.get("has_entry")? { Some(reader.file(row)?) } else { None };
        files.push(MarkedFile { id: *id, mark: Mark(row.get(14)?), shown });
    }
    files.sort_unstable_by_key(|file| file.mark);
    files.dedup_by_key(|file| file.mark);
    Ok(files)
}

pub(super) fn known(db: &Connection, origin: &OriginId, visit: &mut dyn FnMut(KnownFile)) -> Result<()> {
    let mut statement = db.prepare_cached(sql::KNOWN)?;
    let mut rows = statement.query([origin.as_str()])?;
    while let Some(row) = rows.next()? {
        visit(KnownFile {
            id: file_id_of(row.get(0)?)?,
            version: version_of(row, 1)?,
            kind: kind_of(row.get(4)?)?,
            state: state_of(row.get(5)?)?,
        });
    }
    Ok(())
}

pub(super) fn missing_since(db: &Connection, id: FileId) -> Result<Option<UnixNanos>> {
    let gone = db.prepare_cached(sql::GONE)?.query_row([id.raw()], |row| row.get(0)).optional()?;
    // A row without a time is as good as one of long ago.
    Ok(gone.map(|gone: Option<i64>| UnixNanos(gone.unwrap_or_default())))
}

pub(super) fn multi_disc_albums(db: &Connection) -> Result<Vec<AlbumKey>> {
    let mut statement = db.prepare_cached(sql::MULTI_DISC)?;
    let albums = statement.query_map([], |row| row.get(0).map(AlbumKey::from_raw))?;
    Ok(albums.collect::<rusqlite::Result<_>>()?)
}

pub(super) fn manifest(db: &Connection, id: FileId) -> Result<Option<(FileVersion, ChunkManifest)>> {
    let mut statement = db.prepare_cached(sql::MANIFEST)?;
    let mut rows = statement.query([id.raw()])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let manifest = manifest_of(row.get_ref(3)?.as_blob().map_err(damaged)?)?;
    Ok(Some((version_of(row, 0)?, manifest)))
}

pub(super) fn manifests(db: &Connection, after: Option<FileId>, limit: usize) -> Result<Vec<SavedManifest>> {
    let mut statement = db.prepare_cached(sql::MANIFESTS)?;
    let mut rows = statement.query((after.map_or(-1, FileId::raw), sql_limit(limit)))?;
    let mut saved = Vec::new();
    while let Some(row) = rows.next()? {
        let manifest = manifest_of(row.get_ref(3)?.as_blob().map_err(damaged)?)?;
        saved.push(SavedManifest { id: file_id_of(row.get(4)?)?, version: version_of(row, 0)?, manifest });
    }
    Ok(saved)
}

pub(super) fn note(db: &Connection, key: &str) -> Result<Option<String>> {
    Ok(db.prepare_cached(sql::NOTE)?.query_row([key], |row| row.get(0)).optional()?)
}

pub(super) fn changes_since(db: &Connection, after: Revision, limit: usize) -> Result<Changes> {
    let tx = db.unchecked_transaction()?;
    let state = State::load(&tx)?;
    let latest = Revision(state.revision);
    // What asks for more than there is followed another catalogue.
    if after.0 < state.pruned || after > latest {
        return Ok(Changes { changes: Vec::new(), upto: latest, truncated: true });
    }
    let mut changes = Vec::new();
    let mut statement = tx.prepare_cached(sql::CHANGES)?;
    let mut rows = statement.query([after.0.cast_signed()])?;
    let mut upto = after;
    while let Some(row) = rows.next()? {
        let count = usize::try_from(row.get::<_, i64>(1)?).map_err(damaged)?;
        if upto > after && changes.len() + count > limit {
            return Ok(Changes { changes, upto, truncated: false });
        }
        log::read(row.get_ref(2)?.as_blob().map_err(damaged)?, &mut changes)?;
        upto = Revision(row.get::<_, i64>(0)?.cast_unsigned());
    }
    Ok(Changes { changes, upto: latest, truncated: false })
}

/// SQLite's limits are signed, and a negative one means none.
fn sql_limit(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// Reads files with the paths they are shown at. Directories that it has been in are remembered, as the files of
/// a page often stand in few.
struct FileReader<'c> {
    db: &'c Connection,
    dirs: HashMap<Ino, Vec<Name>>,
    origin: Option<OriginId>,
}

impl<'c> FileReader<'c> {
    fn new(db: &'c Connection) -> Self {
        Self { db, dirs: HashMap::from([(ROOT_INODE, Vec::new())]), origin: None }
    }

    fn page(&mut self, sql: &str, params: impl Params) -> Result<Vec<FileMeta>> {
        let mut statement = self.db.prepare_cached(sql)?;
        let mut rows = statement.query(params)?;
        let mut files = Vec::new();
        while let Some(row) = rows.next()? {
            files.push(self.file(row)?);
        }
        Ok(files)
    }

    /// Reads the columns that all queries for files have.
    fn file(&mut self, row: &Row<'_>) -> Result<FileMeta> {
        let text = |n| row.get_ref(n).map_err(damaged)?.as_str_or_null().map_err(damaged);
        let blob = |n| row.get_ref(n).map_err(damaged)?.as_blob().map_err(damaged);
        let folder = OriginPath::new(blob(2)?).map_err(damaged)?;
        let shown_at = match (row.get::<_, Option<i64>>(12)?, row.get::<_, Option<i64>>(13)?) {
            (Some(parent), Some(cookie)) => Some(self.shown_at(ino_of(parent), cookie)?),
            _ => None,
        };
        Ok(FileMeta {
            id: file_id_of(row.get(0)?)?,
            origin: self.origin(text(1)?.unwrap_or_default()),
            path: folder.join(blob(3)?).map_err(damaged)?,
            version: version_of(row, 4)?,
            kind: kind_of(row.get(7)?)?,
            state: state_of(row.get(8)?)?,
            format: text(9)?.map(format_of).transpose()?,
            problem: text(10)?.map(str::to_owned),
            audio: text(11)?.map(audio_of).transpose()?.map(Box::new),
            shown_at,
        })
    }

    /// Files of a page are mostly of one origin: they share its id.
    fn origin(&mut self, name: &str) -> OriginId {
        match &self.origin {
            Some(origin) if origin.as_str() == name => origin.clone(),
            _ => self.origin.insert(OriginId::from(name)).clone(),
        }
    }

    fn shown_at(&mut self, parent: Ino, cookie: i64) -> Result<VirtualPath> {
        let mut statement = self.db.prepare_cached(sql::NODE_AT)?;
        let leaf: Option<Vec<u8>> =
            statement.query_row((ino_value(parent), cookie), |row| row.get(0)).optional()?;
        let leaf = leaf.ok_or_else(|| damaged("a file has lost its entry in the tree"))?;
        let mut names = self.dir(parent)?;
        names.push(name_of(&leaf)?);
        VirtualPath::new(names).ok_or_else(|| damaged("a file has an empty path"))
    }

    /// Returns the names from the root down to a directory.
    fn dir(&mut self, dir: Ino) -> Result<Vec<Name>> {
        let mut statement = self.db.prepare_cached(sql::DIR_AT)?;
        let mut below: Vec<(Ino, Name)> = Vec::new();
        let mut at = dir;
        while !self.dirs.contains_key(&at) {
            let read = |row: &Row<'_>| Ok((row.get(0)?, row.get::<_, Vec<u8>>(2)?));
            let found = statement.query_row([ino_value(at)], read).optional()?;
            let Some((parent, name)) = found.filter(|_| below.len() < DEEPEST) else {
                return Err(damaged("a directory has lost its way to the root"));
            };
            below.push((at, name_of(&name)?));
            at = ino_of(parent);
        }
        let mut names = self.dirs.get(&at).cloned().unwrap_or_default();
        for (ino, name) in below.into_iter().rev() {
            names.push(name);
            self.dirs.insert(ino, names.clone());
        }
        Ok(names)
    }
}
