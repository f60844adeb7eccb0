//! Reads JSON as Go's encoding/json reads it into a struct, which is how runc reads config.json: keys in any case, null as
//! "not given". Stricter than serde's own reading, for which an array may be a struct, and than Go's where a key is given
//! twice. The types say what is expected where; it knows none of them, nor where the text is from.

mod fields;
mod lists;
mod reader;
mod shape;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt::Write;

use serde::Deserialize;

use reader::Reader;

/// A field of a struct, by the names that serde has for both.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Field {
    pub owner: &'static str,
    pub name: &'static str,
}

/// Whether a rule reads a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reads {
    AsItIs,
    /// A text, or each of a list.
    Text,
    /// A text that may be missing.
    OptionalText,
}

/// What a kind of file adds to Go's rules.
pub trait Rules {
    /// What goes through [`Rules::text`].
    fn reads(&self, _: Field) -> Reads {
        Reads::AsItIs
    }

    /// The text that stands for this one. None leaves it out of its list, or its optional field empty.
    ///
    /// # Errors
    /// It may not stand there; the words are the user's.
    fn text<'t>(&self, _: Field, text: Cow<'t, str>) -> Result<Option<Cow<'t, str>>, String> {
        Ok(Some(text))
    }

    /// The fields of a struct that are read as null where they are missing.
    fn may_lack(&self, _owner: &str) -> &'static [&'static str] {
        &[]
    }

    /// Told where null stands for the zero value of a field that is not optional.
    ///
    /// # Errors
    /// This field has to be given.
    fn zero(&self, _: Field) -> Result<(), String> {
        Ok(())
    }
}

/// Go's rules alone.
#[derive(Debug, Clone, Copy)]
pub struct Plain;

impl Rules for Plain {}

/// A text that could not be read.
#[derive(Debug, thiserror::Error)]
pub enum JsonError {
    /// No JSON, or not in this form.
    #[error("{0}")]
    Form(String),
    /// Refused by [`Rules`], in its words.
    #[error("{0}")]
    Refused(String),
}

/// Reads the whole of `text`.
///
/// # Errors
/// It is no JSON, has another form than `T`, or is refused by a rule.
pub fn from_slice<'de, T: Deserialize<'de>>(text: &'de [u8], rules: &dyn Rules) -> Result<T, JsonError> {
    let context = Context { rules, path: RefCell::default(), refused: RefCell::default() };
    let mut json = serde_json::Deserializer::from_slice(text);
    let read = T::deserialize(Reader::new(&mut json, &context)).and_then(|value| json.end().map(|()| value));
    read.map_err(|error| context.explain(&error))
}

/// What one reading shares. The path of an error is noted on the way back from it, so that no other reading pays for it.
struct Context<'c> {
    rules: &'c dyn Rules,
    path: RefCell<Vec<Segment>>,
    refused: RefCell<Option<String>>,
}

enum Segment {
    Field(&'static str),
    Key(String),
    Index(usize),
}

impl Context<'_> {
    fn note(&self, segment: Segment) {
        self.path.borrow_mut().push(segment);
    }

    fn refuse<E: serde::de::Error>(&self, why: String) -> E {
        let error = E::custom(&why);
        *self.refused.borrow_mut() = Some(why);
        error
    }

    fn text<'t, E: serde::de::Error>(
        &self,
        at: Field,
        text: Cow<'t, str>,
    ) -> Result<Option<Cow<'t, str>>, E> {
        self.rules.text(at, text).map_err(|why| self.refuse(why))
    }

    fn explain(&self, error: &serde_json::Error) -> JsonError {
        if let Some(why) = self.refused.take() {
            return JsonError::Refused(why);
        }
        let mut text = String::new();
        if error.is_data() {
            for segment in self.path.borrow().iter().rev() {
                let _ = match segment {
                    Segment::Index(index) => write!(text, "[{index}]"),
                    Segment::Field(_) | Segment::Key(_) if text.is_empty() => write!(text, "{segment}"),
                    Segment::Field(_) => write!(text, ".{segment}"),
                    // A key may be anything.
                    Segment::Key(key) => write!(text, "[{key:?}]"),
                };
            }
        }
        if !text.is_empty() {
            text.push_str(": ");
        }
        let _ = write!(text, "{error}");
        JsonError::Form(text)
    }
}

impl std::fmt::Display for Segment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Field(name) => f.write_str(name),
            Self::Key(key) => write!(f, "{key:?}"),
            Self::Index(index) => write!(f, "{index}"),
        }
    }
}

/// An error of a reading of its own (of null or of a text) as one of the reading around it.
fn outer<E: serde::de::Error>(error: serde_json::Error) -> E {
    E::custom(error)
}
