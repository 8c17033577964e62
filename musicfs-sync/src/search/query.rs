//! From an understood query to one of the index.
//!
//! Bounds: a beginning of one letter is looked up among first letters and not completed, unless it is in one field only (it
//! has a great part of all words), and a misspelling has at most two letters wrong.

use std::ops::Bound;

use tantivy::Term;
use tantivy::query::{
    AllQuery, BooleanQuery, BoostQuery, ConstScoreQuery, EmptyQuery, FuzzyTermQuery, Occur, PhraseQuery,
    Query, RangeQuery, TermQuery,
};
use tantivy::schema::{Field, IndexRecordOption};

use super::begun::Begun;
use super::fold;
use super::parse::{Ast, Match};
use super::schema::Fields;
use super::steady::Steady;

/// Letters that a word must have to be found misspelt: shorter ones would find every short word.
const SHORTEST_MISSPELT: usize = 3;
/// What a word found as it is counts for beside one that is only alike.
const AS_IT_IS: f32 = 3.0;
/// What a word that is only alike counts for.
const ALIKE: f32 = 1.0;

/// Builds the query.
pub(super) fn build(fields: &Fields, ast: &Ast) -> Box<dyn Query> {
    match ast {
        Ast::All(parts) => {
            let mut clauses: Vec<_> = parts.iter().map(|part| clause(fields, part, Occur::Must)).collect();
            // Exclusions alone exclude from everything.
            if clauses.iter().all(|(occur, _)| *occur == Occur::MustNot) {
                clauses.push((Occur::Must, Box::new(AllQuery)));
            }
            Box::new(BooleanQuery::new(clauses))
        }
        Ast::Any(parts) => {
            let clauses = parts.iter().map(|part| (Occur::Should, build(fields, part))).collect();
            Box::new(BooleanQuery::new(clauses))
        }
        Ast::Not(inner) => {
            Box::new(BooleanQuery::new(vec![(Occur::Must, Box::new(AllQuery)), excluded(fields, inner)]))
        }
        Ast::Years(from, to) => {
            let year = |year| Bound::Included(Term::from_field_u64(fields.year, year));
            Box::new(ConstScoreQuery::new(Box::new(RangeQuery::new(year(*from), year(*to))), ALIKE))
        }
        Ast::Text(field, text, how) => text_query(fields, fields.of(*field), text, *how),
    }
}

fn clause(fields: &Fields, ast: &Ast, occur: Occur) -> (Occur, Box<dyn Query>) {
    match ast {
        Ast::Not(inner) => excluded(fields, inner),
        other => (occur, build(fields, other)),
    }
}

fn excluded(fields: &Fields, ast: &Ast) -> (Occur, Box<dyn Query>) {
    (Occur::MustNot, Box::new(Steady(build(fields, ast))))
}

fn text_query(fields: &Fields, field: Field, text: &str, how: Match) -> Box<dyn Query> {
    let mut terms = Vec::new();
    fold::words(text, |word| terms.push(Term::from_field_text(field, word)));
    let phrase = fields.has_positions(field);
    match (terms.len(), how) {
        (0, _) => Box::new(EmptyQuery),
        (1, _) => word(fields, field, terms.remove(0), how),
        (_, Match::Exact) if phrase => Box::new(PhraseQuery::new(terms)),
        (_, Match::Prefix) if phrase => {
            let exact = PhraseQuery::new(terms.clone());
            let last = terms.remove(terms.len() - 1);
            let end = end_of(field, last.value().as_str().unwrap_or_default());
            rather(exact, Begun { before: terms, from: last, end })
        }
        _ => Box::new(BooleanQuery::new(
            terms.into_iter().map(|term| (Occur::Must, word(fields, field, term, how))).collect(),
        )),
    }
}

fn word(fields: &Fields, field: Field, term: Term, how: Match) -> Box<dyn Query> {
    let exact = TermQuery::new(term.clone(), IndexRecordOption::WithFreqs);
    let text = term.value().as_str().unwrap_or_default().to_owned();
    let mut letters = text.chars();
    match (how, letters.next()) {
        (Match::Prefix, Some(only)) if field == fields.any && letters.next().is_none() => {
            rather(exact, TermQuery::new(fields.begins_term(only), IndexRecordOption::Basic))
        }
        (Match::Prefix, _) => {
            rather(exact, Begun { before: Vec::new(), from: term, end: end_of(field, &text) })
        }
        (Match::Fuzzy(edits), _) if text.chars().count() >= SHORTEST_MISSPELT => {
            rather(exact, FuzzyTermQuery::new(term, edits, true))
        }
        (Match::Exact | Match::Fuzzy(_), _) => Box::new(exact),
    }
}

/// Finds what is alike, and what is as it was written first.
fn rather(exact: impl Query, alike: impl Query) -> Box<dyn Query> {
    Box::new(BooleanQuery::new(vec![
        (Occur::Should, Box::new(BoostQuery::new(Box::new(exact), AS_IT_IS))),
        (Occur::Should, Box::new(ConstScoreQuery::new(Box::new(alike), ALIKE))),
    ]))
}

/// Returns the end of all words that begin with a text.
fn end_of(field: Field, text: &str) -> Term {
    // No character comes after this one, and none that is a letter comes near it.
    Term::from_field_text(field, &format!("{text}\u{10ffff}"))
}
