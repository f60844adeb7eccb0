//! The keys of an object that is a struct: found as Go finds them, each once, and null for those that may be missing.

use std::fmt;
use std::slice;

use serde::de::value::{BorrowedStrDeserializer, StrDeserializer};
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, Visitor};

use super::reader::Reader;
use super::{Context, Field, Segment, outer};

type Names = &'static [&'static str];

pub(super) struct Fields<'c, A> {
    inner: A,
    owner: &'static str,
    names: Names,
    /// By number of the name.
    seen: u64,
    /// The field that the next value is for; None if nobody knows its key.
    field: Option<&'static str>,
    /// What is still to be given as null. Before the end of the object nobody knows.
    missing: Option<slice::Iter<'static, &'static str>>,
    context: &'c Context<'c>,
}

impl<'c, A> Fields<'c, A> {
    pub(super) fn new(inner: A, owner: &'static str, names: Names, context: &'c Context<'c>) -> Self {
        Self { inner, owner, names, seen: 0, field: None, missing: None, context }
    }

    fn is_seen(&self, name: &str) -> bool {
        self.names.iter().position(|known| *known == name).is_none_or(|index| self.seen & bit(index) != 0)
    }
}

/// The structs of files have fewer than 64 fields; of one with more, the rest may come twice.
fn bit(index: usize) -> u64 {
    u32::try_from(index).ok().and_then(|index| 1_u64.checked_shl(index)).unwrap_or(0)
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Fields<'_, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        let mut seed = Some(seed);
        if self.missing.is_none() {
            let Self { inner, names, seen, field, .. } = self;
            if let Some(key) = inner.next_key_seed(Key { seed: &mut seed, names, seen, field })? {
                return Ok(Some(key));
            }
        }
        let mut missing =
            self.missing.take().unwrap_or_else(|| self.context.rules.may_lack(self.owner).iter());
        let name = missing.find(|name| !self.is_seen(name)).copied();
        self.missing = Some(missing);
        self.field = name;
        match (name, seed) {
            (Some(name), Some(seed)) => seed.deserialize(BorrowedStrDeserializer::new(name)).map(Some),
            _ => Ok(None),
        }
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        let context = self.context;
        let Some(name) = self.field else {
            // Of an unknown key: whoever takes it takes anything.
            return self.inner.next_value_seed(seed);
        };
        let at = Field { owner: self.owner, name };
        let place = Place { seed, at, context };
        let read = if self.missing.is_some() {
            place.deserialize(&mut serde_json::Deserializer::from_slice(b"null")).map_err(outer)
        } else {
            self.inner.next_value_seed(place)
        };
        read.inspect_err(|_| context.note(Segment::Field(name)))
    }
}

/// The value of a field.
struct Place<'c, V> {
    seed: V,
    at: Field,
    context: &'c Context<'c>,
}

impl<'de, V: DeserializeSeed<'de>> DeserializeSeed<'de> for Place<'_, V> {
    type Value = V::Value;

    fn deserialize<D: Deserializer<'de>>(self, inner: D) -> Result<V::Value, D::Error> {
        self.seed.deserialize(Reader::of(inner, self.at, self.context))
    }
}

/// A key: the field's own name where it is one of a field, however it is written.
struct Key<'a, K> {
    seed: &'a mut Option<K>,
    names: Names,
    seen: &'a mut u64,
    field: &'a mut Option<&'static str>,
}

impl<'de, K: DeserializeSeed<'de>> DeserializeSeed<'de> for Key<'_, K> {
    type Value = K::Value;

    fn deserialize<D: Deserializer<'de>>(self, key: D) -> Result<K::Value, D::Error> {
        key.deserialize_str(self)
    }
}

impl<'de, K: DeserializeSeed<'de>> Visitor<'de> for Key<'_, K> {
    type Value = K::Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a key")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<K::Value, E> {
        let Some(seed) = self.seed.take() else { return Err(E::custom("a key without a field")) };
        let exact = self.names.iter().position(|name| *name == text);
        let index = exact.or_else(|| self.names.iter().position(|name| is_folded(name, text)));
        let Some(index) = index else {
            *self.field = None;
            return seed.deserialize(StrDeserializer::new(text));
        };
        let name = self.names[index];
        if *self.seen & bit(index) != 0 {
            return Err(E::custom(format_args!("{name:?} is given twice")));
        }
        *self.seen |= bit(index);
        *self.field = Some(name);
        seed.deserialize(BorrowedStrDeserializer::new(name))
    }
}

/// Whether Go takes `key` for `name`: letters of any case, and the two of Unicode that fold into ASCII (ſ and the Kelvin sign).
fn is_folded(name: &str, key: &str) -> bool {
    let folded = key.chars().map(|letter| match letter {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        other => other.to_ascii_lowercase(),
    });
    key.len() >= name.len() && folded.eq(name.chars().map(|letter| letter.to_ascii_lowercase()))
}
