//! From a query to what is told of the tracks that it finds.

use musicfs_core::{FileMeta, MetaDb, SearchFailure, Searcher};
use serde::{Deserialize, Serialize};

use crate::refusal::Refusal;

/// Results when nobody says how many.
pub(crate) const LIMIT: u16 = 50;
/// Most results of one search: an answer is held in memory as a whole.
pub(crate) const MOST: u16 = 1000;

/// `GET /v1/search?q=…&limit=N`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Answer {
    pub(crate) query: String,
    /// Where the library is mounted.
    pub(crate) mountpoint: Option<String>,
    /// Whether the whole library was searched; else the index is still being built.
    pub(crate) complete: bool,
    /// The most fitting first.
    pub(crate) results: Vec<Hit>,
}

/// A track that was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hit {
    pub(crate) id: String,
    /// From the root of the tree.
    pub(crate) path: String,
    pub(crate) title: Option<String>,
    pub(crate) artist: Option<String>,
    pub(crate) album: Option<String>,
    pub(crate) track: Option<u32>,
    pub(crate) year: Option<u16>,
    pub(crate) duration_ms: Option<u64>,
    pub(crate) origin: String,
}

impl From<SearchFailure> for Refusal {
    fn from(failure: SearchFailure) -> Self {
        match failure {
            SearchFailure::Refused(why) => Self::Wrong(why),
            SearchFailure::Unavailable(_) => Self::Failed(failure.to_string()),
        }
    }
}

/// Searches. Blocks.
pub(crate) fn ask(
    searcher: &dyn Searcher,
    db: &dyn MetaDb,
    query: &str,
    limit: usize,
) -> Result<Answer, Refusal> {
    let found = searcher.search(query, limit.min(MOST.into()))?;
    let mut results = Vec::with_capacity(found.files.len());
    for id in found.files {
        // One that has left the catalogue since is not told of.
        let file = db.file(id).map_err(|error| Refusal::failed(&error))?;
        results.extend(file.as_ref().and_then(hit));
    }
    Ok(Answer { query: query.to_owned(), mountpoint: None, complete: found.complete, results })
}

fn hit(file: &FileMeta) -> Option<Hit> {
    let path = file.shown_at.as_ref()?.to_string();
    let audio = file.audio.as_deref();
    Some(Hit {
        id: file.id.to_string(),
        path,
        title: audio.and_then(|audio| audio.title.clone()),
        artist: audio.map(|audio| audio.artists.join(", ")).filter(|artists| !artists.is_empty()),
        album: audio.and_then(|audio| audio.album.clone()),
        track: audio.and_then(|audio| audio.track),
        year: audio.and_then(|audio| audio.year()),
        duration_ms: audio.map(|audio| audio.duration_ms).filter(|duration| *duration > 0),
        origin: file.origin.to_string(),
    })
}
