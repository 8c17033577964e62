//! Which fields gave a path, for those who ask why a file has its name.

use super::{LayoutInput, chain, is_shown, value};
use crate::Template;
use crate::template::{Alternative, Part};

/// A field or a quoted text that a template asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldUse {
    /// The field's name, or the text in its quotes.
    pub field: String,
    /// Its value; `None` where the file has none.
    pub value: Option<String>,
    /// Whether it went into the path: not when it is empty, stands in a group that is not shown, or comes after
    /// the alternative that was taken.
    pub used: bool,
}

/// Returns what [`render`](super::render) asks of the file, in the template's order.
pub fn trace(template: &Template, input: &LayoutInput<'_>) -> Vec<FieldUse> {
    let mut uses = Vec::new();
    trace_parts(&template.parts, input, true, &mut uses);
    uses
}

fn trace_parts(parts: &[Part], input: &LayoutInput<'_>, shown: bool, uses: &mut Vec<FieldUse>) {
    for part in parts {
        match part {
            Part::Text(_) | Part::Slash => {}
            Part::Field(field) => {
                let value = value(*field, input).map(String::from);
                uses.push(FieldUse { field: field.name().to_owned(), used: shown && value.is_some(), value });
            }
            Part::Chain(alternatives) => {
                let mut open = shown && chain(alternatives, input).is_some();
                for alternative in alternatives {
                    let (field, value) = match alternative {
                        Alternative::Field(field) => {
                            (field.name().to_owned(), value(*field, input).map(String::from))
                        }
                        Alternative::Text(text) => (format!("'{text}'"), Some(text.clone())),
                    };
                    let used = open && value.is_some();
                    open &= !used;
                    uses.push(FieldUse { field, value, used });
                }
            }
            Part::Group(group) => trace_parts(group, input, shown && is_shown(group, input), uses),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AudioMeta, OriginId, OriginPath};

    #[test]
    fn trace_tells_what_was_taken_and_what_was_not() {
        let audio = AudioMeta {
            title: Some("T".into()),
            artists: vec!["A".into()],
            disc: Some(1),
            ..AudioMeta::default()
        };
        let (path, origin) = (OriginPath::new("x.flac").unwrap(), OriginId::from("o"));
        let traced = |multi_disc| {
            let input =
                LayoutInput { audio: &audio, path: &path, origin: &origin, extension: "flac", multi_disc };
            let uses = trace(&Template::default(), &input);
            let used = uses.iter().filter(|u| u.used).map(|u| u.field.clone()).collect::<Vec<_>>();
            let unused = uses.iter().filter(|u| !u.used).map(|u| u.field.clone()).collect::<Vec<_>>();
            (used.join(" "), unused.join(" "))
        };
        let (used, unused) = traced(false);
        assert_eq!(used, "artist 'Unknown Album' title ext");
        assert_eq!(unused, "albumartist 'Unknown Artist' album disc track stem");
        assert_eq!(traced(true).0, "artist 'Unknown Album' disc title ext");
    }
}
