//! From an understood query to one of the index.
//!
//! Bounds: a beginning of one or two letters is looked up and not completed, for it has a great part of all words; and
//! a misspelling has at most two letters wrong.

use std::ops::Bound;

use tantivy::Term;
use tantivy::query::{
    AllQuery, BooleanQuery, EmptyQuery, FuzzyTermQuery, Occur, PhraseQuery, Query, RangeQuery, TermQuery,
};
use tantivy::schema::{Field, IndexRecordOption};

use super::begun::Begun;
use super::fold;
use super::parse::{Ast, Match};
use super::rather::Rather;
use super::schema::Fields;
use super::steady::Steady;

/// Letters that a word must have to be found misspelt: shorter ones would find every short word.
const SHORTEST_MISSPELT: usize = 3;

/// A query, or a part of one.
enum Built {
    /// All that it finds counts the same, but for what is as it was written.
    Rather(Rather),
    /// What it finds counts for as much as the words in it tell.
    Scored(Box<dyn Query>),
}

impl Built {
    fn boxed(self) -> Box<dyn Query> {
        match self {
            Self::Rather(query) => Box::new(query),
            Self::Scored(query) => query,
        }
    }
}

/// Builds the query.
pub(super) fn build(fields: &Fields, ast: &Ast) -> Box<dyn Query> {
    part(fields, ast).boxed()
}

fn part(fields: &Fields, ast: &Ast) -> Built {
    match ast {
        Ast::All(parts) => all(fields, parts),
        Ast::Any(parts) => {
            let clauses = parts.iter().map(|part| (Occur::Should, build(fields, part))).collect();
            Built::Scored(Box::new(BooleanQuery::new(clauses)))
        }
        Ast::Not(_) => all(fields, std::slice::from_ref(ast)),
        Ast::Years(from, to) => {
            let year = |year| Bound::Included(Term::from_field_u64(fields.year, year));
            Built::Rather(Rather::alike(RangeQuery::new(year(*from), year(*to))))
        }
        Ast::Text(field, text, how) => text_query(fields, fields.of(*field), text, *how),
    }
}

fn all(fields: &Fields, parts: &[Ast]) -> Built {
    let (mut alike, mut scored, mut excluded) = (Vec::new(), Vec::new(), Vec::new());
    for ast in parts {
        match ast {
            Ast::Not(inner) => excluded.push(Box::new(Steady(build(fields, inner))) as Box<dyn Query>),
            other => match part(fields, other) {
                Built::Rather(query) => alike.push(query),
                Built::Scored(query) => scored.push(query),
            },
        }
    }
    if !scored.is_empty() {
        let required = scored.into_iter().chain(alike.into_iter().map(|query| Box::new(query) as _));
        let clauses = required.map(|query| (Occur::Must, query));
        let excluded = excluded.into_iter().map(|query| (Occur::MustNot, query));
        return Built::Scored(Box::new(BooleanQuery::new(clauses.chain(excluded).collect())));
    }
    if alike.is_empty() {
        // Exclusions alone exclude from everything.
        alike.push(Rather::alike(AllQuery));
    }
    Built::Rather(Rather::all(alike, excluded))
}

fn text_query(fields: &Fields, field: Field, text: &str, how: Match) -> Built {
    let mut terms = Vec::new();
    fold::words(text, |word| terms.push(Term::from_field_text(field, word)));
    let phrase = fields.has_positions(field);
    match (terms.len(), how) {
        (0, _) => Built::Scored(Box::new(EmptyQuery)),
        (1, _) => word(fields, terms.remove(0), how),
        (_, Match::Exact) if phrase => Built::Scored(Box::new(PhraseQuery::new(terms))),
        (_, Match::Prefix) if phrase => {
            let exact = PhraseQuery::new(terms.clone());
            let last = terms.remove(terms.len() - 1);
            Built::Rather(match fields.begun(&last) {
                Some(begun) => {
                    terms.push(begun);
                    Rather::new(exact, PhraseQuery::new(terms))
                }
                None => Rather::new(exact, Begun::new(terms, last)),
            })
        }
        _ => {
            let words = terms.into_iter().map(|term| (Occur::Must, word(fields, term, how).boxed()));
            Built::Scored(Box::new(BooleanQuery::new(words.collect())))
        }
    }
}

fn word(fields: &Fields, term: Term, how: Match) -> Built {
    let exact = TermQuery::new(term.clone(), IndexRecordOption::WithFreqs);
    let letters = term.value().as_str().map_or(0, |word| word.chars().count());
    Built::Rather(match how {
        Match::Prefix => match fields.begun(&term) {
            Some(begun) => Rather::new(exact, TermQuery::new(begun, IndexRecordOption::Basic)),
            None => Rather::new(exact, Begun::new(Vec::new(), term)),
        },
        Match::Fuzzy(edits) if letters >= SHORTEST_MISSPELT => {
            Rather::new(exact, FuzzyTermQuery::new(term, edits, true))
        }
        Match::Exact | Match::Fuzzy(_) => return Built::Scored(Box::new(exact)),
    })
}
