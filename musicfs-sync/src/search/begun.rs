//! A word of which the beginning is known, alone or as the last of a phrase.
//!
//! tantivy's own phrase completes the beginning with the first words of the dictionary that fit, and must be told how
//! many: with few, `AC/D` does not find AC/DC in a library of any size, and each of them is asked about every track
//! with the words before. Here the tracks with the words before are found first, and then every word that the
//! beginning may become is looked for among them, in the order of the dictionary, in which they lie one after the
//! other; what that takes is in proportion to both. A word alone is found in the same way, among all.

use tantivy::postings::{BlockSegmentPostings, Postings, SegmentPostings, TermInfo};
use tantivy::query::{BitSetDocSet, ConstScorer, EnableScoring, Explanation, Query, Scorer, Weight};
use tantivy::schema::IndexRecordOption;
use tantivy::{
    BitSet, DocId, DocSet, InvertedIndexReader, Score, SegmentReader, TERMINATED, TantivyError, Term,
};

/// Words one after the other, and a last one that begins as is said. All that match count the same.
#[derive(Clone, Debug)]
pub(super) struct Begun {
    before: Vec<Term>,
    /// The first word that the last may be.
    from: Term,
    /// The first after it that it cannot be.
    end: Term,
}

impl Begun {
    /// Finds a word that begins as `last` does, behind the words before, if any; then the field has to have positions.
    pub(super) fn new(before: Vec<Term>, last: Term) -> Self {
        // No character comes after this one, and none that is a letter comes near it.
        let end = format!("{}\u{10ffff}", last.value().as_str().unwrap_or_default());
        let end = Term::from_field_text(last.field(), &end);
        Self { before, from: last, end }
    }
}

impl Query for Begun {
    fn weight(&self, _: EnableScoring<'_>) -> tantivy::Result<Box<dyn Weight>> {
        Ok(Box::new(self.clone()))
    }
}

impl Weight for Begun {
    fn scorer(&self, segment: &SegmentReader, boost: Score) -> tantivy::Result<Box<dyn Scorer>> {
        let index = segment.inverted_index(self.from.field())?;
        let mut found = BitSet::with_max_value(segment.max_doc());
        if self.before.is_empty() {
            self.each_word(&index, |_, block| {
                each_doc(block, |doc| {
                    found.insert(doc);
                });
                Ok(())
            })?;
        } else if let Some(places) = self.places(&index, segment.max_doc())? {
            self.each_phrase(&index, &places, &mut found)?;
        }
        Ok(Box::new(ConstScorer::new(BitSetDocSet::from(found), boost)))
    }

    fn explain(&self, segment: &SegmentReader, doc: DocId) -> tantivy::Result<Explanation> {
        let mut scorer = self.scorer(segment, 1.0)?;
        if scorer.doc() > doc || scorer.seek(doc) != doc {
            return Err(TantivyError::InvalidArgument(format!("document {doc} does not match")));
        }
        Ok(Explanation::new("a word that is begun", 1.0))
    }
}

impl Begun {
    /// Visits each word that the beginning may become, with the documents that have it.
    fn each_word(
        &self,
        index: &InvertedIndexReader,
        mut visit: impl FnMut(&TermInfo, &mut BlockSegmentPostings) -> tantivy::Result<()>,
    ) -> tantivy::Result<()> {
        let range = index.terms().range().ge(self.from.serialized_value_bytes());
        let range = range.lt(self.end.serialized_value_bytes());
        let mut words = range.without_keys().into_stream()?;
        let mut reused: Option<BlockSegmentPostings> = None;
        while words.advance() {
            let word = words.value();
            let block = match &mut reused {
                Some(block) => {
                    index.reset_block_postings_from_terminfo(word, block)?;
                    block
                }
                None => {
                    let how = IndexRecordOption::Basic;
                    reused.insert(index.read_block_postings_from_terminfo(word, how)?)
                }
            };
            visit(word, block)?;
        }
        Ok(())
    }

    /// Finds where a word that the beginning may become follows the words before.
    fn each_phrase(
        &self,
        index: &InvertedIndexReader,
        places: &Places,
        found: &mut BitSet,
    ) -> tantivy::Result<()> {
        let (mut shared, mut theirs) = (Vec::new(), Vec::new());
        self.each_word(index, |word, block| {
            each_doc(block, |doc| {
                if places.has(doc) {
                    shared.push(doc);
                }
            });
            if shared.is_empty() {
                return Ok(());
            }
            // Few words get here: where one stands is read only when it may be the one.
            let mut word =
                index.read_postings_from_terminfo(word, IndexRecordOption::WithFreqsAndPositions)?;
            for doc in shared.drain(..) {
                catch_up(&mut word, doc);
                word.positions(&mut theirs);
                if places.of(doc).iter().any(|place| theirs.binary_search(place).is_ok()) {
                    found.insert(doc);
                }
            }
            Ok(())
        })
    }

    /// Finds the words before among the documents below `end`; `None` when one is not in the index.
    fn places(&self, index: &InvertedIndexReader, end: DocId) -> tantivy::Result<Option<Places>> {
        let mut words = Vec::with_capacity(self.before.len());
        for (word, ahead) in self.before.iter().rev().zip(1..) {
            let how = IndexRecordOption::WithFreqsAndPositions;
            let Some(postings) = index.read_postings(word, how)? else { return Ok(None) };
            words.push((ahead, postings));
        }
        // The rarest leads.
        words.sort_by_key(|(_, postings)| postings.doc_freq());
        Ok(words.split_first_mut().map(|(leads, others)| Places::where_all_are(leads, others, end)))
    }
}

/// Where words stand one after the other.
struct Places {
    /// For each document of the segment, its number among those that have them, from 1; 0 when it has not.
    numbers: Vec<u32>,
    /// For each of those where its places begin among all, and where all end.
    starts: Vec<usize>,
    /// Places for the next word.
    places: Vec<u32>,
}

impl Places {
    /// Joins words; with each is how far the next word is ahead of it.
    fn where_all_are(
        (ahead, leads): &mut (u32, SegmentPostings),
        others: &mut [(u32, SegmentPostings)],
        end: DocId,
    ) -> Self {
        let mut found = Self { numbers: vec![0; end as usize], starts: vec![0], places: Vec::new() };
        let (mut places, mut theirs) = (Vec::new(), Vec::new());
        while leads.doc() != TERMINATED {
            let doc = leads.doc();
            let apart = others.iter_mut().map(|(_, word)| catch_up(word, doc)).find(|at| *at != doc);
            if let Some(further) = apart {
                leads.seek(further);
                continue;
            }
            leads.positions_with_offset(*ahead, &mut places);
            for (ahead, word) in &mut *others {
                word.positions_with_offset(*ahead, &mut theirs);
                places.retain(|place| theirs.binary_search(place).is_ok());
            }
            if !places.is_empty() {
                found.places.append(&mut places);
                found.numbers[doc as usize] = found.starts.len() as u32;
                found.starts.push(found.places.len());
            }
            leads.advance();
        }
        found
    }

    fn has(&self, doc: DocId) -> bool {
        self.numbers[doc as usize] != 0
    }

    /// Returns the places in a document that has the words.
    fn of(&self, doc: DocId) -> &[u32] {
        let number = self.numbers[doc as usize] as usize;
        &self.places[self.starts[number - 1]..self.starts[number]]
    }
}

fn each_doc(block: &mut BlockSegmentPostings, mut visit: impl FnMut(DocId)) {
    while !block.docs().is_empty() {
        block.docs().iter().for_each(|doc| visit(*doc));
        block.advance();
    }
}

/// Goes on to a document, or the first after it; stays when it is there or beyond.
pub(super) fn catch_up(docs: &mut impl DocSet, doc: DocId) -> DocId {
    if docs.doc() < doc { docs.seek(doc) } else { docs.doc() }
}
