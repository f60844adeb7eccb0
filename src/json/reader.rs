//! The deserializer that types are given: it asks the text what is there, and has [`Shape`] compare.

use serde::Deserialize;
use serde::de::{Deserializer, IntoDeserializer, Visitor};

use super::shape::{Kind, Shape};
use super::{Context, Field, Reads};

pub(super) struct Reader<'c, D> {
    inner: D,
    at: Field,
    reads: Reads,
    context: &'c Context<'c>,
}

impl<'c, D> Reader<'c, D> {
    /// Of a value to which no rule applies.
    pub(super) fn new(inner: D, context: &'c Context<'c>) -> Self {
        Self { inner, at: Field::default(), reads: Reads::AsItIs, context }
    }

    /// Of the value of a field.
    pub(super) fn of(inner: D, at: Field, context: &'c Context<'c>) -> Self {
        Self { inner, at, reads: context.rules.reads(at), context }
    }
}

impl<'de, D: Deserializer<'de>> Reader<'_, D> {
    fn read<V: Visitor<'de>>(self, kind: Kind, visitor: V) -> Result<V::Value, D::Error> {
        let Self { inner, at, reads, context } = self;
        inner.deserialize_any(Shape { kind, visitor, at, reads, context })
    }
}

macro_rules! read_as {
    ($($kind:ident: $($method:ident)*;)*) => {
        $($(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
            self.read(Kind::$kind, visitor)
        })*)*
    };
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Reader<'_, D> {
    type Error = D::Error;

    read_as! {
        Bool: deserialize_bool;
        Number: deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_u8 deserialize_u16
            deserialize_u32 deserialize_u64 deserialize_f32 deserialize_f64;
        Text: deserialize_char deserialize_str deserialize_string deserialize_identifier;
        List: deserialize_seq deserialize_bytes deserialize_byte_buf;
        Map: deserialize_map;
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.read(Kind::Struct(name, fields), visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.read(Kind::Name, visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        let Self { inner, at, reads, context } = self;
        inner.deserialize_option(Optional { visitor, at, reads, context })
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, D::Error> {
        self.read(Kind::List, visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.read(Kind::List, visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        visitor.visit_newtype_struct(self)
    }

    // Of any form: JSON that is kept as it is, and what nobody knows.

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.inner.deserialize_any(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.inner.deserialize_ignored_any(visitor)
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.inner.deserialize_unit(visitor)
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.inner.deserialize_unit_struct(name, visitor)
    }
}

/// A value that may be null, which is its absence.
struct Optional<'c, V> {
    visitor: V,
    at: Field,
    reads: Reads,
    context: &'c Context<'c>,
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Optional<'_, V> {
    type Value = V::Value;

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.visitor.expecting(formatter)
    }

    fn visit_none<E: serde::de::Error>(self) -> Result<Self::Value, E> {
        self.visitor.visit_none()
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Self::Value, E> {
        self.visitor.visit_none()
    }

    fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<Self::Value, D::Error> {
        let Self { visitor, at, reads, context } = self;
        if reads != Reads::OptionalText {
            return visitor.visit_some(Reader { inner, at, reads, context });
        }
        let text = String::deserialize(Reader::new(inner, context))?;
        match context.text(at, text.into())? {
            Some(text) => visitor.visit_some(text.into_deserializer()),
            None => visitor.visit_none(),
        }
    }
}
