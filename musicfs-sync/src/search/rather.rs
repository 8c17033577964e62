//! What is alike, with what is as it was written before it.
//!
//! All that is alike counts the same, so that once enough of it is found, none of the rest can be among the best, and
//! only what is as it was written is looked at on: a letter with which half of all tracks begin costs no more than a
//! rare one.

use tantivy::query::{
    AllQuery, BooleanQuery, BoostQuery, EnableScoring, Explanation, Occur, Query, Scorer, Weight,
};
use tantivy::{DocId, DocSet, Score, SeekDangerResult, SegmentReader, TERMINATED, Term};

use super::begun::catch_up;

/// What a word found as it is counts for beside one that is only alike.
const AS_IT_IS: Score = 3.0;
/// What a word that is only alike counts for.
const ALIKE: Score = 1.0;

/// Finds what is alike, and what is as it was written first.
#[derive(Debug)]
pub(super) struct Rather {
    /// What adds to what a track counts for that is alike.
    exact: Vec<Box<dyn Query>>,
    alike: Box<dyn Query>,
    /// What each track counts for.
    least: Score,
}

impl Rather {
    /// Finds what `alike` does, and what `exact` finds of it first.
    pub(super) fn new(exact: impl Query, alike: impl Query) -> Self {
        let exact: Box<dyn Query> = Box::new(BoostQuery::new(Box::new(exact), AS_IT_IS));
        Self { exact: vec![exact], ..Self::alike(alike) }
    }

    /// Finds what a query does, and all of it counts the same.
    pub(super) fn alike(alike: impl Query) -> Self {
        Self { exact: Vec::new(), alike: Box::new(alike), least: ALIKE }
    }

    /// Finds what all of some find and what is excluded does not; there is at least one.
    pub(super) fn all(parts: Vec<Self>, excluded: Vec<Box<dyn Query>>) -> Self {
        let mut all = Self { exact: Vec::new(), alike: Box::new(AllQuery), least: 0.0 };
        let mut clauses = Vec::with_capacity(parts.len() + excluded.len());
        for part in parts {
            all.exact.extend(part.exact);
            all.least += part.least;
            clauses.push((Occur::Must, part.alike));
        }
        clauses.extend(excluded.into_iter().map(|query| (Occur::MustNot, query)));
        all.alike = Box::new(BooleanQuery::new(clauses));
        all
    }
}

impl Clone for Rather {
    fn clone(&self) -> Self {
        let exact = self.exact.iter().map(|exact| exact.box_clone()).collect();
        Self { exact, alike: self.alike.box_clone(), least: self.least }
    }
}

impl Query for Rather {
    fn weight(&self, scoring: EnableScoring<'_>) -> tantivy::Result<Box<dyn Weight>> {
        let EnableScoring::Enabled { searcher, .. } = scoring else { return self.alike.weight(scoring) };
        let exact = self.exact.iter().map(|exact| exact.weight(scoring)).collect::<tantivy::Result<_>>()?;
        let alike = self.alike.weight(EnableScoring::disabled_from_searcher(searcher))?;
        Ok(Box::new(RatherWeight { exact, alike, least: self.least }))
    }

    fn query_terms<'a>(&'a self, visitor: &mut dyn FnMut(&'a Term, bool)) {
        self.exact.iter().for_each(|exact| exact.query_terms(visitor));
        self.alike.query_terms(visitor);
    }
}

struct RatherWeight {
    exact: Vec<Box<dyn Weight>>,
    alike: Box<dyn Weight>,
    least: Score,
}

impl RatherWeight {
    fn around(
        &self,
        alike: Box<dyn Scorer>,
        reader: &SegmentReader,
        boost: Score,
    ) -> tantivy::Result<RatherScorer> {
        let exact = self.exact.iter().map(|exact| exact.scorer(reader, boost));
        let exact = exact.collect::<tantivy::Result<_>>()?;
        Ok(RatherScorer { exact, alike, least: boost * self.least })
    }
}

impl Weight for RatherWeight {
    fn scorer(&self, reader: &SegmentReader, boost: Score) -> tantivy::Result<Box<dyn Scorer>> {
        Ok(Box::new(self.around(self.alike.scorer(reader, 1.0)?, reader, boost)?))
    }

    fn scorer_danger(
        &self,
        reader: &SegmentReader,
        target: DocId,
        boost: Score,
    ) -> tantivy::Result<(SeekDangerResult, Box<dyn Scorer>)> {
        let (found, alike) = self.alike.scorer_danger(reader, target, 1.0)?;
        Ok((found, Box::new(self.around(alike, reader, boost)?)))
    }

    fn explain(&self, reader: &SegmentReader, doc: DocId) -> tantivy::Result<Explanation> {
        self.alike.explain(reader, doc)
    }

    fn for_each_pruning(
        &self,
        mut threshold: Score,
        reader: &SegmentReader,
        callback: &mut dyn FnMut(DocId, Score) -> Score,
    ) -> tantivy::Result<()> {
        let mut all = self.around(self.alike.scorer(reader, 1.0)?, reader, 1.0)?;
        while threshold < all.least {
            let doc = all.doc();
            if doc == TERMINATED {
                return Ok(());
            }
            let score = all.score();
            if score > threshold {
                threshold = callback(doc, score);
            }
            all.advance();
        }
        while let Some(doc) = all.next_exact() {
            let score = all.score();
            if score > threshold {
                threshold = callback(doc, score);
            }
            all.advance();
        }
        Ok(())
    }
}

struct RatherScorer {
    exact: Vec<Box<dyn Scorer>>,
    alike: Box<dyn Scorer>,
    /// What each counts for.
    least: Score,
}

impl RatherScorer {
    /// Goes on to the first, from here on, that is as it was written in some part.
    fn next_exact(&mut self) -> Option<DocId> {
        loop {
            let from = self.alike.doc();
            if from == TERMINATED {
                return None;
            }
            let doc = self.exact.iter_mut().map(|exact| catch_up(exact, from)).min()?;
            if doc == TERMINATED {
                return None;
            }
            if catch_up(&mut self.alike, doc) == doc {
                return Some(doc);
            }
        }
    }
}

impl DocSet for RatherScorer {
    fn advance(&mut self) -> DocId {
        self.alike.advance()
    }

    fn seek(&mut self, target: DocId) -> DocId {
        self.alike.seek(target)
    }

    fn seek_danger(&mut self, target: DocId) -> SeekDangerResult {
        self.alike.seek_danger(target)
    }

    fn doc(&self) -> DocId {
        self.alike.doc()
    }

    fn size_hint(&self) -> u32 {
        self.alike.size_hint()
    }

    fn cost(&self) -> u64 {
        self.alike.cost()
    }
}

impl Scorer for RatherScorer {
    fn score(&mut self) -> Score {
        let doc = self.alike.doc();
        let exact =
            self.exact.iter_mut().filter_map(|exact| (catch_up(exact, doc) == doc).then(|| exact.score()));
        self.least + exact.sum::<Score>()
    }
}
