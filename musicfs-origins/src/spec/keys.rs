//! Tables with keys that are all known.

use std::fmt;
use std::time::Duration;

use musicfs_core::byte_unit;
use serde::Deserialize;
use serde::de::{self, DeserializeOwned, Deserializer, Visitor};

use super::SpecError;

/// A key must be at least this like an unknown one to be named instead (1 is the same).
const LIKE: f64 = 0.7;

/// Makes the error of a value that makes no sense.
pub(super) fn wrong(key: &str, reason: impl Into<String>) -> SpecError {
    SpecError::Value { key: key.into(), reason: reason.into() }
}

/// Returns which of `known` is most like `word`, if one is.
pub(super) fn nearest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<String> {
    let scored = known.into_iter().map(|known| (strsim::jaro_winkler(word, known), known));
    let best = scored.max_by(|a, b| a.0.total_cmp(&b.0))?;
    (best.0 >= LIKE).then(|| best.1.to_owned())
}

/// Makes the error of a type that is none of `known`.
pub(super) fn unknown_type(name: &str, known: &[&str]) -> SpecError {
    let hint = match nearest(name, known.iter().copied()) {
        Some(nearest) => format!("did you mean '{nearest}'?"),
        None => format!("there are: {}", known.join(", ")),
    };
    SpecError::UnknownType { name: name.into(), hint }
}

/// Returns the keys of a struct that is read from a table.
pub(super) fn fields<T: DeserializeOwned>() -> &'static [&'static str] {
    let mut fields: &'static [&'static str] = &[];
    // It fails once it has told its fields, which is all that is wanted.
    let _ = T::deserialize(Listen(&mut fields));
    fields
}

/// Reads a struct from a table whose keys it must all have.
pub(super) fn read<T: DeserializeOwned>(table: toml::Table, kind: &str) -> Result<T, SpecError> {
    let known = fields::<T>();
    for key in table.keys() {
        if known.contains(&key.as_str()) {
            continue;
        }
        if known.contains(&format!("{key}_env").as_str()) {
            return Err(SpecError::SecretInPlace { key: key.clone() });
        }
        let common = fields::<super::Common>();
        let nearest = nearest(key, known.iter().chain(common).copied().chain(["type", "url"]));
        return Err(SpecError::UnknownKey { kind: kind.into(), key: key.clone(), nearest });
    }
    // One key at a time would tell which one is wrong; so does looking for it once something is.
    let failed = match toml::Value::Table(table.clone()).try_into::<T>() {
        Ok(read) => return Ok(read),
        Err(error) => error,
    };
    let guilty = table.keys().find(|key| {
        let mut without = table.clone();
        without.remove(key.as_str());
        toml::Value::Table(without).try_into::<T>().is_ok()
    });
    Err(match guilty {
        Some(key) => wrong(key, failed.message()),
        None => wrong(kind, failed.message()),
    })
}

/// Hears which fields a struct asks for.
struct Listen<'f>(&'f mut &'static [&'static str]);

impl<'de> Deserializer<'de> for Listen<'_> {
    type Error = de::value::Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Self::Error> {
        Err(de::Error::custom("only structs are listened to"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Self::Error> {
        *self.0 = fields;
        Err(de::Error::custom("that is all"))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
        unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

/// A number of bytes: a number, or text with a unit (`500 kB`, `8MiB`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bytes(pub(super) u64);

/// A time: seconds, or text with a unit (`500ms`, `5s`, `2min`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Time(pub(super) Duration);

impl Bytes {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (number, unit) = measured(text)?;
        let factor = match unit.to_ascii_lowercase().trim_end_matches("/s") {
            "" => 1,
            unit => byte_unit(unit)?,
        };
        number.checked_mul(factor).filter(|bytes| *bytes > 0).map(Self)
    }
}

impl Time {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (number, unit) = measured(text)?;
        let time = match unit {
            "ms" => Duration::from_millis(number),
            "" | "s" => Duration::from_secs(number),
            "m" | "min" => Duration::from_secs(number.checked_mul(60)?),
            _ => return None,
        };
        (!time.is_zero()).then_some(Self(time))
    }
}

fn measured(text: &str) -> Option<(u64, &str)> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    Some((text[..end].parse().ok()?, text[end..].trim()))
}

/// Reads a value that is a number or text.
struct Measure<T> {
    wanted: &'static str,
    parse: fn(&str) -> Option<T>,
}

impl<T> Visitor<'_> for Measure<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.wanted)
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        (self.parse)(text).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self.wanted))
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Measure {
            wanted: "a number of bytes, such as 500000 or \"8 MB\"",
            parse: Self::parse,
        })
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Measure {
            wanted: "a time, such as 5 (seconds) or \"500ms\"",
            parse: Self::parse,
        })
    }
}
