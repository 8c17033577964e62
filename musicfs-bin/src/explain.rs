//! Why a file has its name: put together from the catalogue, without touching the mount or an origin.

use musicfs_core::layout::{self, LayoutInput};
use musicfs_core::{
    ContentReader, FileKind, FileMeta, FileQuery, FileState, MetaDb, MetaError, Name, Node, NodeKind,
    ROOT_INODE, Template, VirtualPath,
};

use crate::control::api::{Explanation, FieldUsed, FileExplanation, OtherFile};

/// Files of an album looked at in one go to find its discs.
const PAGE: usize = 256;

/// Explains what is at a path of the tree; `None` when nothing is there. Blocks as the catalogue does.
pub(crate) fn explain(
    db: &dyn MetaDb,
    reader: &dyn ContentReader,
    template: &Template,
    path: &[u8],
) -> Result<Option<Explanation>, MetaError> {
    let Some(node) = find(db, path)? else { return Ok(None) };
    let mut explanation = Explanation {
        path: shown_path(path),
        kind: if node.kind == NodeKind::Dir { "directory" } else { "file" }.to_owned(),
        inode: node.ino.raw(),
        mtime: node.mtime.parts().0,
        file: None,
        because: Vec::new(),
    };
    match node.ino.file_id() {
        Some(id) => {
            let file = db.file(id)?.ok_or(MetaError::UnknownFile(id))?;
            explain_file(db, reader.cached(&file), template, path, &file, &mut explanation)?;
            copies(db, reader, &file, &mut explanation)?;
        }
        None if node.ino == ROOT_INODE => {
            explanation.because.push("It is the root of the tree.".into());
        }
        None => explanation.because.push(
            "It is made from the tags of the files in it, and goes with the last of them; \
             explain one of those files to see by which tags."
                .into(),
        ),
    }
    Ok(Some(explanation))
}

/// Splits a path of the tree into its names.
pub(crate) fn names(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/').filter(|name| !name.is_empty() && *name != b".")
}

fn shown_path(path: &[u8]) -> String {
    names(path).map(String::from_utf8_lossy).collect::<Vec<_>>().join("/")
}

/// Returns what is at a path of the tree. Blocks as the catalogue does.
pub(crate) fn find(db: &dyn MetaDb, path: &[u8]) -> Result<Option<Node>, MetaError> {
    let mut node = db.node(ROOT_INODE)?;
    for name in names(path) {
        node = match node {
            Some(dir) if dir.kind == NodeKind::Dir => db.lookup(dir.ino, name)?,
            _ => return Ok(None),
        };
    }
    Ok(node)
}

fn explain_file(
    db: &dyn MetaDb,
    cached: &str,
    template: &Template,
    path: &[u8],
    file: &FileMeta,
    explanation: &mut Explanation,
) -> Result<(), MetaError> {
    let because = &mut explanation.because;
    let mut told = FileExplanation {
        id: file.id.to_string(),
        origin: file.origin.to_string(),
        origin_path: file.path.to_string(),
        size: file.version.size,
        kind: kind(file.kind).to_owned(),
        state: state(file.state).to_owned(),
        format: file.format.map(|format| format.name().to_owned()),
        codec: file.audio.as_ref().and_then(|audio| audio.codec).map(|codec| codec.to_string()),
        cached: cached.to_owned(),
        problem: file.problem.clone(),
        ..FileExplanation::default()
    };
    let wanted = match (file.kind, &file.audio, file.format) {
        (FileKind::Audio, Some(audio), Some(format)) => {
            let multi_disc = has_several_discs(db, file)?;
            let extension = layout::extension_for(&file.path, format, audio.codec);
            let input = LayoutInput {
                audio,
                path: &file.path,
                origin: &file.origin,
                extension: &extension,
                multi_disc: multi_disc.is_some(),
            };
            told.template = Some(template.as_str().to_owned());
            told.fields = layout::trace(template, &input)
                .into_iter()
                .map(|field| FieldUsed { field: field.field, value: field.value, used: field.used })
                .collect();
            because.push("Its name is made from its tags by the template.".into());
            if audio.compilation {
                because.push(format!(
                    "It is tagged as part of a compilation, so that its album artist is {}.",
                    layout::VARIOUS_ARTISTS
                ));
            }
            match (audio.disc, multi_disc) {
                (Some(disc), Some(why)) => because.push(format!("It is on disc {disc}: {why}.")),
                (Some(disc), None) => because.push(format!(
                    "Its disc number {disc} counts as none, as no file of the album says that there are several."
                )),
                (None, _) => {}
            }
            Some(layout::render(template, &input))
        }
        (FileKind::Unparsed, ..) => {
            because.push(format!(
                "It looks like music and could not be parsed, so that it is shown in {} under its own path.",
                layout::UNSORTED
            ));
            Some(layout::unsorted(&file.path))
        }
        (FileKind::Sidecar, ..) => {
            because.push(
                "It is no music itself: it is shown with the music that it lies beside on its origin.".into(),
            );
            None
        }
        _ => None,
    };
    if file.state == FileState::Missing {
        because.push("It is gone from its origin, and remembered until it comes back.".into());
    }
    if let Some(wanted) = wanted {
        told.taken_by = number(db, path, file, &wanted, because)?;
        told.wanted = Some(wanted.to_string());
    }
    explanation.file = Some(told);
    Ok(())
}

/// Says which files share an entry, and which of them is read.
fn copies(
    db: &dyn MetaDb,
    reader: &dyn ContentReader,
    file: &FileMeta,
    explanation: &mut Explanation,
) -> Result<(), MetaError> {
    let copies = db.copies(file.id)?;
    let Some(told) = &mut explanation.file else { return Ok(()) };
    if copies.len() > 1 {
        told.copies = copies.iter().map(|copy| format!("{}:{}", copy.origin, copy.path)).collect();
        explanation.because.push(format!(
            "It is one of {} copies of the same music, which share the entry; it leads, as its origin is preferred: {}.",
            copies.len(),
            told.copies.join(", ")
        ));
    }
    if let Some((origin, path)) = reader.stand_in(file) {
        let backup = format!("{origin}:{path}");
        explanation.because.push(format!(
            "Its own origin {} failed, so that {backup} is read in its place until that is back.",
            file.origin
        ));
        told.backup = Some(backup);
    }
    Ok(())
}

/// Says why a file's name differs from the one that it wants, and returns the file that has it.
fn number(
    db: &dyn MetaDb,
    path: &[u8],
    file: &FileMeta,
    wanted: &VirtualPath,
    because: &mut Vec<String>,
) -> Result<Option<OtherFile>, MetaError> {
    let shown: Vec<&[u8]> = names(path).collect();
    let wanted_bytes = wanted.to_bytes();
    if shown.join(&b'/') == wanted_bytes {
        return Ok(None);
    }
    let holder = match find(db, &wanted_bytes)?.and_then(|node| node.ino.file_id()) {
        Some(id) if id != file.id => db.file(id)?,
        _ => None,
    };
    // A directory takes a number as well, where a file has its name.
    let numbered = shown.len() == wanted.names().len()
        && shown.iter().zip(wanted.names()).all(|(shown, wanted)| is_numbered(shown, wanted));
    match (&holder, numbered) {
        (Some(other), true) => because.push(format!(
            "Its number tells it from {}:{}, which has the same tags, came first and keeps the name.",
            other.origin, other.path
        )),
        (None, true) => because.push(
            "It was given its number when another file had the name, and keeps it so that no path changes."
                .into(),
        ),
        (_, false) => because.push(
            "The tree has not been arranged by this template yet; the next scan moves it to the path wanted."
                .into(),
        ),
    }
    Ok(holder.filter(|_| numbered).map(|other| OtherFile {
        origin: other.origin.to_string(),
        origin_path: other.path.to_string(),
        shown_at: wanted.to_string(),
    }))
}

/// Tells whether a name is the one wanted, or that with a number.
fn is_numbered(shown: &[u8], wanted: &Name) -> bool {
    let number = |open: usize| -> Option<u32> {
        let rest = shown.get(open + 2..)?;
        let digits = rest.iter().position(|byte| *byte == b')')?;
        std::str::from_utf8(&rest[..digits]).ok()?.parse().ok()
    };
    shown == wanted.as_bytes()
        || shown
            .windows(2)
            .enumerate()
            .filter(|(_, pair)| *pair == b" (")
            .any(|(open, _)| number(open).is_some_and(|n| wanted.with_suffix(n).as_bytes() == shown))
}

/// Says why a file's album counts as one of several discs; `None` when it does not.
fn has_several_discs(db: &dyn MetaDb, file: &FileMeta) -> Result<Option<String>, MetaError> {
    if file.audio.as_ref().is_some_and(|audio| audio.says_multi_disc()) {
        return Ok(Some("its own tags say that there are several".to_owned()));
    }
    let Some(album) = file.album_key() else { return Ok(None) };
    let mut after = None;
    loop {
        let page = db.files(&FileQuery::DiscsOf(album), after, PAGE)?;
        let other = page.files.iter().find(|f| f.audio.as_ref().is_some_and(|a| a.says_multi_disc()));
        if let Some(other) = other {
            return Ok(Some(format!("{}:{} says that there are several", other.origin, other.path)));
        }
        after = match page.next {
            Some(next) => Some(next),
            None => return Ok(None),
        };
    }
}

fn kind(kind: FileKind) -> &'static str {
    match kind {
        FileKind::Audio => "audio",
        FileKind::Sidecar => "sidecar",
        FileKind::Unparsed => "unparsed",
        FileKind::Other => "other",
    }
}

fn state(state: FileState) -> &'static str {
    match state {
        FileState::Pending => "pending",
        FileState::Present => "present",
        FileState::Missing => "missing",
        FileState::Excluded => "excluded",
    }
}

#[cfg(test)]
mod tests;
