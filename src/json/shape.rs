//! What is expected at a place, compared with what is there.

use std::borrow::Cow;
use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{Deserializer, Error, IntoDeserializer, MapAccess, SeqAccess, Visitor};

use super::fields::Fields;
use super::lists::{Entries, Items};
use super::{Context, Field, Reads, outer};

#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Bool,
    Number,
    Text,
    /// A text that is one of a few.
    Name,
    List,
    Map,
    /// Its name, and those of its fields.
    Struct(&'static str, &'static [&'static str]),
}

pub(super) struct Shape<'c, V> {
    pub(super) kind: Kind,
    pub(super) visitor: V,
    pub(super) at: Field,
    pub(super) reads: Reads,
    pub(super) context: &'c Context<'c>,
}

impl<V> Shape<'_, V> {
    fn wrong<E: Error>(&self, found: &str) -> E {
        let expected = match self.kind {
            Kind::Bool => "true or false",
            Kind::Number => "a number",
            Kind::Text | Kind::Name => "a string",
            Kind::List => "an array",
            Kind::Map | Kind::Struct(..) => "an object",
        };
        E::custom(format_args!("expected {expected}, found {found}"))
    }
}

impl<'de, V: Visitor<'de>> Shape<'_, V> {
    /// Of null, Go makes the zero value.
    fn zero<E: Error>(self) -> Result<V::Value, E> {
        self.context.rules.zero(self.at).map_err(|why| self.context.refuse(why))?;
        let empty: &'static [u8] = match self.kind {
            Kind::Bool => return self.visitor.visit_bool(false),
            Kind::Number => return self.visitor.visit_u64(0),
            Kind::Text | Kind::Name => return self.text(Cow::Borrowed("")),
            Kind::List => b"[]",
            Kind::Map | Kind::Struct(..) => b"{}",
        };
        serde_json::Deserializer::from_slice(empty).deserialize_any(self).map_err(outer)
    }

    fn text<E: Error>(self, text: Cow<'_, str>) -> Result<V::Value, E> {
        let text = if self.reads != Reads::AsItIs {
            self.context.text(self.at, text)?.unwrap_or_default()
        } else {
            text
        };
        match (self.kind, text) {
            (Kind::Text, Cow::Borrowed(text)) => self.visitor.visit_str(text),
            (Kind::Text, Cow::Owned(text)) => self.visitor.visit_string(text),
            (Kind::Name, text) => {
                let name: StrDeserializer<'_, E> = text.as_ref().into_deserializer();
                self.visitor.visit_enum(name)
            }
            _ => Err(self.wrong("a string")),
        }
    }
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Shape<'_, V> {
    type Value = V::Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.visitor.expecting(formatter)
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        self.zero()
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Self::Value, E> {
        match self.kind {
            Kind::Bool => self.visitor.visit_bool(value),
            _ => Err(self.wrong("a boolean")),
        }
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Self::Value, E> {
        match self.kind {
            Kind::Number => self.visitor.visit_u64(value),
            _ => Err(self.wrong("a number")),
        }
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Self::Value, E> {
        match self.kind {
            Kind::Number => self.visitor.visit_i64(value),
            _ => Err(self.wrong("a number")),
        }
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Self::Value, E> {
        match self.kind {
            Kind::Number => self.visitor.visit_f64(value),
            _ => Err(self.wrong("a number")),
        }
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        self.text(Cow::Borrowed(text))
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
        match self.kind {
            Kind::Text if self.reads == Reads::AsItIs => self.visitor.visit_borrowed_str(text),
            _ => self.text(Cow::Borrowed(text)),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<Self::Value, A::Error> {
        match self.kind {
            Kind::List => self.visitor.visit_seq(Items::new(items, self.at, self.reads, self.context)),
            _ => Err(self.wrong("an array")),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, entries: A) -> Result<Self::Value, A::Error> {
        match self.kind {
            Kind::Map => self.visitor.visit_map(Entries::new(entries, self.context)),
            Kind::Struct(owner, fields) => {
                self.visitor.visit_map(Fields::new(entries, owner, fields, self.context))
            }
            _ => Err(self.wrong("an object")),
        }
    }
}
