//! The configuration file as it is written: TOML with the place of every value, and every error at once.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::keys::{self, KEYS};
use super::settings::Toml;
use super::{Place, Problem};

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
    /// Entries of `[[origins]]`; `None` when the file has no such key.
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

/// An entry of `[[origins]]`.
#[derive(Debug)]
pub(crate) struct OriginEntry {
    /// Where it stands.
    pub(crate) place: Place,
    /// What it says.
    pub(crate) table: toml::Table,
    /// Where each of its keys stands.
    pub(crate) keys: BTreeMap<String, Place>,
}

fn origins(lines: &Lines<'_>, value: &Spanned<DeValue<'_>>, problems: &mut Vec<Problem>) -> Vec<OriginEntry> {
    let place = lines.place(value.span().start);
    let Some(entries) = value.get_ref().as_array() else {
        let found = value.get_ref().type_str();
        problems.push(Problem::at(place, format!("expected [[origins]] tables, found a {found}")));
        return Vec::new();
    };
    let mut origins = Vec::new();
    for entry in entries {
        let Some(table) = entry.get_ref().as_table() else {
            let found = entry.get_ref().type_str();
            let place = lines.place(entry.span().start);
            problems.push(Problem::at(place, format!("expected a table in 'origins', found a {found}")));
            continue;
        };
        let place = |key: &Spanned<_>| lines.place(key.span().start);
        origins.push(OriginEntry {
            place: lines.place(lines.start_of(entry.span().start, table)),
            table: plain_table(table),
            keys: table.keys().map(|key| (key.get_ref().to_string(), place(key))).collect(),
        });
    }
    origins
}

fn plain_table(table: &DeTable<'_>) -> toml::Table {
    table.iter().map(|(key, value)| (key.get_ref().to_string(), plain(value.get_ref()))).collect()
}

/// Drops the places of a value. A number that is none was reported when the file was parsed.
fn plain(value: &DeValue<'_>) -> toml::Value {
    match value {
        DeValue::String(text) => toml::Value::String(text.to_string()),
        DeValue::Boolean(flag) => toml::Value::Boolean(*flag),
        DeValue::Integer(number) => {
            let parsed = i64::from_str_radix(number.as_str(), number.radix());
            parsed.map_or_else(|_| toml::Value::String(number.as_str().to_owned()), toml::Value::Integer)
        }
        DeValue::Float(number) => {
            let parsed = number.as_str().parse();
            parsed.map_or_else(|_| toml::Value::String(number.as_str().to_owned()), toml::Value::Float)
        }
        DeValue::Datetime(time) => toml::Value::Datetime(*time),
        DeValue::Array(values) => {
            toml::Value::Array(values.iter().map(|value| plain(value.get_ref())).collect())
        }
        DeValue::Table(table) => toml::Value::Table(plain_table(table)),
    }
}

/// Finds places in a text.
struct Lines<'a> {
    path: &'a Path,
    text: &'a str,
}

impl Lines<'_> {
    /// Returns where a table of an array begins. The parser places the first table of `[[…]]` at the start of the
    /// file: then it begins at the brackets above its first key.
    fn start_of(&self, told: usize, table: &DeTable<'_>) -> usize {
        let first = table.keys().map(|key| key.span().start).min().filter(|_| told == 0);
        first.and_then(|key| self.text[..key].rfind("[[")).unwrap_or(told)
    }

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
