//! The beginning of a pass: the origin shows that it is itself, and what is known is loaded.

use std::collections::HashSet;
use std::sync::Arc;

use futures::StreamExt;
use musicfs_core::{FileId, FileMeta, FileQuery, KnownFile, MetaDb, Origin, OriginId, OriginPath};
use tracing::warn;

use super::apart::Apart;
use super::listing::Listing;
use super::seen::Seen;
use super::sidecars::Folders;
use super::{OpenFolder, PAGE, Pass};
use crate::library::Library;
use crate::scan::delta::{DeltaDetector, Reread};
use crate::scan::ids::Ids;
use crate::scan::proof;
use crate::scan::record::{Carried, Record, Unfinished};
use crate::scan::turns::Lane;
use crate::scan::writer::Writer;
use crate::scan::{PassOptions, ScanError, ScanReport, Scanner, blocking};

pub(super) enum Begun<'a> {
    Pass(Box<Pass<'a>>),
    /// It must not even begin.
    Held(ScanReport),
}

/// Has the origin show that it is itself, and loads what is known.
pub(super) async fn begin<'a>(
    scanner: &'a Scanner,
    origin: Arc<dyn Origin>,
    options: &PassOptions,
) -> Result<Begun<'a>, ScanError> {
    let id = origin.id().clone();
    let storage = origin.health().await.map_err(ScanError::Origin)?.identity;
    let began = (scanner.clock.now(), scanner.clock.unix());
    let reread = scanner.what_to_reread(&id, options, began);
    let (db, library, of, paths) =
        (scanner.db.clone(), scanner.library.clone(), id.clone(), options.paths.clone());
    let loaded = blocking(move || load(&*db, &library, &of, paths.as_deref(), reread)).await??;
    let (mut detector, record, apart) = loaded;
    let mut report = ScanReport::new(id);
    let exchanged = matches!((&record.identity, &storage), (Some(was), Some(is)) if was != is);
    if exchanged && !options.confirmed && (options.paths.is_some() || !detector.knows_nothing()) {
        let same = options.paths.is_none() && holds_the_same(&*origin, &detector).await?;
        if !same {
            let origin = &report.origin;
            warn!(%origin, "another storage is in the origin's place; nothing is changed");
            report.held_back = Some("another storage is in its place; all files are kept".to_owned());
            report.needs_confirmation = true;
            return Ok(Begun::Held(report));
        }
    }
    let resume = record.unfinished.as_ref().and_then(Unfinished::goes_on_at);
    let resume = resume.filter(|_| options.reread && options.paths.is_none());
    report.resumed = record.unfinished.is_some();
    report.goes_on = resume.is_some();
    let listing = match &options.paths {
        Some(paths) => Listing::of(&origin, paths.clone()),
        None => Listing::whole(&*origin, resume),
    };
    // Loading is a handful of queries, but they block.
    let lane = if options.paths.is_some() { Lane::Asked } else { Lane::Whole };
    let parts = scanner.parts(lane);
    let less_preferred = if record.first { scanner.less_preferred(origin.id()) } else { Vec::new() };
    let id = origin.id().clone();
    let writer = blocking(move || {
        let mut writer = Writer::load(parts)?;
        writer.take_names_from(less_preferred, &id)?;
        Ok::<_, ScanError>(writer)
    });
    let writer = writer.await??;
    // That nothing is known of a part says nothing of the rest: what is new in it may have come from there.
    let knows_nothing = options.paths.is_none() && detector.knows_nothing();
    let expected = detector.expected();
    // What a pass that was killed had recorded of files that moved was not yet compared with those that are gone.
    let arrived = record.unfinished.as_ref().map_or_else(Vec::new, |pass| pass.arrived.clone());
    let carried = record.unfinished.as_ref().map_or_else(Carried::default, |pass| pass.carried.clone());
    Ok(Begun::Pass(Box::new(Pass {
        scanner,
        origin,
        options: options.clone(),
        detector,
        knows_nothing,
        began,
        expected,
        writer: Some(writer),
        waiting_since: None,
        listing: Some(listing),
        parts: 0,
        completed: 0,
        cursor: None,
        storage,
        record,
        marked: None,
        unlisted: Vec::new(),
        open: OpenFolder::default(),
        folders: Folders::default(),
        alike: HashSet::new(),
        held: arrived.clone(),
        arrived,
        kept_out: HashSet::new(),
        unsure: HashSet::new(),
        apart,
        carried,
        exceptions: Vec::new(),
        seen: Seen::new(scanner.seen.clone(), scanner.clock.clone()),
        report,
    })))
}

/// Loads what a pass needs to know: one query, or one for each path.
fn load(
    db: &dyn MetaDb,
    library: &Library,
    origin: &OriginId,
    paths: Option<&[OriginPath]>,
    reread: Reread,
) -> Result<(DeltaDetector, Record, Apart), ScanError> {
    let mut record = Record::load(db, origin)?;
    record.settle_moved(db, library, origin)?;
    let apart = Apart::load(db, record.unfinished.as_ref().map_or(&[], |pass| &pass.apart))?;
    let mut detector = DeltaDetector::with_ids(Ids::load(library, origin)?, reread);
    detector.exclude(library.exclusions()?);
    let places: Vec<FileId> = apart.places().map(|at| detector.id_of(at)).collect();
    let arrived = record.unfinished.iter().flat_map(|pass| pass.arrived.iter().copied());
    detector.leave_unsettled(arrived.chain(places));
    match paths {
        None => db.known(origin, &mut |file: KnownFile| detector.add_known(&file))?,
        Some(paths) => {
            detector.is_of_a_part();
            load_part(db, &mut detector, origin, paths)?;
        }
    }
    Ok((detector, record, apart))
}

/// Loads what is known of parts of an origin: one query for each.
pub(super) fn load_part(
    db: &dyn MetaDb,
    detector: &mut DeltaDetector,
    origin: &OriginId,
    paths: &[OriginPath],
) -> Result<(), ScanError> {
    let known = |file: &FileMeta| KnownFile {
        id: file.id,
        version: file.version.clone(),
        kind: file.kind,
        state: file.state,
    };
    for path in paths {
        let at = db.file(detector.id_of(path))?;
        if let Some(file) = at.filter(|file| file.origin == *origin && file.path == *path) {
            detector.add_known(&known(&file));
        }
        let query = FileQuery::Under(origin.clone(), path.clone());
        let mut after = None;
        loop {
            let page = db.files(&query, after, PAGE)?;
            page.files.iter().for_each(|file| detector.add_known(&known(file)));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
    }
    Ok(())
}

/// Lists an origin to see whether it holds what is known, without a change.
async fn holds_the_same(origin: &dyn Origin, detector: &DeltaDetector) -> Result<bool, ScanError> {
    let mut probe = detector.clone();
    let mut pages = Listing::whole(origin, None).pages;
    while let Some(page) = pages.next().await {
        for entry in &page.map_err(ScanError::Origin)?.entries {
            probe.detect_changes(entry);
        }
    }
    let (expected, found) = (probe.expected(), probe.unchanged());
    Ok(proof::is_same_library(expected, found))
}
