//! The configuration file as it is written: TOML with the place of every value, and every error at once.

use std::ffi::OsString;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::keys::{self, KEYS};
use super::settings::Toml;
use super::{Place, Problem};

/// Keys of an entry of `[[origins]]`.
pub(crate) const ORIGIN_KEYS: [&str; 4] = ["id", "type", "path", "priority"];

/// A value as the file has it.
#[derive(Clone, Debug)]
pub(crate) struct Value {
    /// As text.
    pub(crate) text: OsString,
    /// Its type there; `None` when no setting has that type.
    pub(crate) toml: Option<Toml>,
    /// What TOML calls its type.
    pub(crate) type_name: &'static str,
    /// Where it stands.
    pub(crate) place: Place,
}

/// What the file says, in its order.
#[derive(Debug, Default)]
pub(crate) struct File {
    /// Plain keys.
    pub(crate) values: Vec<(&'static str, Value)>,
    /// Entries of `[[origins]]`: each with its place and its values; `None` when the file has no such key.
    pub(crate) origins: Option<Vec<OriginEntry>>,
}

/// Parses the text of a file. What can be understood is returned beside the problems.
pub(crate) fn parse(path: &Path, text: &str, problems: &mut Vec<Problem>) -> File {
    let lines = Lines { path, text };
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let place = lines.place(error.span().map_or(0, |span| span.start));
        problems.push(Problem::at(place, error.message().trim_end().to_owned()));
    }
    let mut file = File::default();
    for (key, value) in table.get_ref() {
        let name: &str = key.get_ref();
        match keys::find(name) {
            Some(key) if key.name == keys::ORIGINS => file.origins = Some(origins(&lines, value, problems)),
            Some(key) => file.values.push((key.name, lines.value(value))),
            None => {
                let hint = keys::suggestion(name, KEYS.iter().map(|key| key.name));
                let place = lines.place(key.span().start);
                problems.push(Problem::at(place, format!("unknown key '{name}'; {hint}")));
            }
        }
    }
    file
}

/// An entry of `[[origins]]`: its place and its values.
pub(crate) type OriginEntry = (Place, Vec<(&'static str, Value)>);

fn origins(lines: &Lines<'_>, value: &Spanned<DeValue<'_>>, problems: &mut Vec<Problem>) -> Vec<OriginEntry> {
    let place = lines.place(value.span().start);
    let Some(entries) = value.get_ref().as_array() else {
        let found = value.get_ref().type_str();
        problems.push(Problem::at(place, format!("expected [[origins]] tables, found a {found}")));
        return Vec::new();
    };
    let mut origins = Vec::new();
    for entry in entries {
        let place = lines.place(entry.span().start);
        let Some(table) = entry.get_ref().as_table() else {
            let found = entry.get_ref().type_str();
            problems.push(Problem::at(place, format!("expected a table in 'origins', found a {found}")));
            continue;
        };
        let mut values = Vec::new();
        for (key, value) in table {
            let name: &str = key.get_ref();
            match ORIGIN_KEYS.iter().find(|known| **known == name) {
                Some(known) => values.push((*known, lines.value(value))),
                None => {
                    let hint = keys::suggestion(name, ORIGIN_KEYS.iter().copied());
                    let place = lines.place(key.span().start);
                    problems.push(Problem::at(place, format!("unknown key '{name}' of an origin; {hint}")));
                }
            }
        }
        origins.push((place, values));
    }
    origins
}

/// Finds places in a text.
struct Lines<'a> {
    path: &'a Path,
    text: &'a str,
}

impl Lines<'_> {
    fn place(&self, offset: usize) -> Place {
        let before = &self.text[..self.text.floor_char_boundary(offset)];
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        Place::File { path: self.path.to_owned(), line, column }
    }

    fn value(&self, value: &Spanned<DeValue<'_>>) -> Value {
        let place = self.place(value.span().start);
        let (text, toml) = match value.get_ref() {
            DeValue::String(text) => (text.to_string(), Some(Toml::Text)),
            DeValue::Boolean(flag) => (flag.to_string(), Some(Toml::Bool)),
            DeValue::Integer(number) => {
                let parsed = i64::from_str_radix(number.as_str(), number.radix());
                (parsed.map_or_else(|_| number.as_str().to_owned(), |n| n.to_string()), Some(Toml::Integer))
            }
            _ => (String::new(), None),
        };
        Value { text: text.into(), toml, type_name: value.get_ref().type_str(), place }
    }
}
