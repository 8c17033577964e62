//! From an understood query to one of the index.
//!
//! Bounds: a beginning of one letter is looked up among first letters and not completed, unless it is in one field only (it
//! has a great part of all words), a phrase's last word is completed in at most [`COMPLETIONS`] ways, and a misspelling
//! has at most two letters wrong.

use std::ops::Bound;

use tantivy::Term;
use tantivy::query::{
    AllQuery, BooleanQuery, BoostQuery, ConstScoreQuery, EmptyQuery, FuzzyTermQuery, Occur,
    PhrasePrefixQuery, PhraseQuery, Query, RangeQuery, TermQuery,
};
use tantivy::schema::{Field, IndexRecordOption};

use super::fold;
use super::parse::{Ast, Match};
use super::schema::Fields;
use super::steady::Steady;

/// Ways in which the last word of a phrase is completed.
const COMPLETIONS: u32 = 256;
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
            let mut query = PhrasePrefixQuery::new(terms);
            query.set_max_expansions(COMPLETIONS);
            Box::new(query)
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
    let alike: Box<dyn Query> = match (how, letters.next()) {
        (Match::Prefix, Some(only)) if field == fields.any && letters.next().is_none() => {
            Box::new(TermQuery::new(fields.begins_term(only), IndexRecordOption::Basic))
        }
        (Match::Prefix, _) => Box::new(RangeQuery::new(Bound::Included(term), end_of(field, &text))),
        (Match::Fuzzy(edits), _) if text.chars().count() >= SHORTEST_MISSPELT => {
            Box::new(FuzzyTermQuery::new(term, edits, true))
        }
        (Match::Exact | Match::Fuzzy(_), _) => return Box::new(exact),
    };
    Box::new(BooleanQuery::new(vec![
        (Occur::Should, Box::new(BoostQuery::new(Box::new(exact), AS_IT_IS))),
        (Occur::Should, Box::new(ConstScoreQuery::new(alike, ALIKE))),
    ]))
}

/// Returns the end of all words that begin with a text.
fn end_of(field: Field, text: &str) -> Bound<Term> {
    // No character comes after this one, and none that is a letter comes near it.
    Bound::Excluded(Term::from_field_text(field, &format!("{text}\u{10ffff}")))
}
