//! Arrays, and objects whose keys are names of the user's.

use std::collections::BTreeSet;

use serde::de::value::StrDeserializer;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IntoDeserializer, MapAccess, SeqAccess};

use super::reader::Reader;
use super::{Context, Field, Reads, Segment};

pub(super) struct Items<'c, A> {
    inner: A,
    next: usize,
    at: Field,
    reads: Reads,
    context: &'c Context<'c>,
}

impl<'c, A> Items<'c, A> {
    pub(super) fn new(inner: A, at: Field, reads: Reads, context: &'c Context<'c>) -> Self {
        Self { inner, next: 0, at, reads, context }
    }
}

impl<'de, A: SeqAccess<'de>> Items<'_, A> {
    fn read<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        let read = self.inner.next_element_seed(Plainly { seed, context: self.context });
        if read.is_err() {
            self.context.note(Segment::Index(self.next));
        }
        self.next += 1;
        read
    }
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Items<'_, A> {
    type Error = A::Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        if self.reads == Reads::AsItIs {
            return self.read(seed);
        }
        while let Some(text) = self.read(std::marker::PhantomData::<String>)? {
            if let Some(text) = self.context.text::<A::Error>(self.at, text.into())? {
                return seed.deserialize(text.into_deserializer()).map(Some);
            }
        }
        Ok(None)
    }

    fn size_hint(&self) -> Option<usize> {
        self.inner.size_hint()
    }
}

pub(super) struct Entries<'c, A> {
    inner: A,
    seen: BTreeSet<String>,
    key: Option<String>,
    context: &'c Context<'c>,
}

impl<'c, A> Entries<'c, A> {
    pub(super) fn new(inner: A, context: &'c Context<'c>) -> Self {
        Self { inner, seen: BTreeSet::new(), key: None, context }
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Entries<'_, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        self.seen.extend(self.key.take());
        let Some(key) = self.inner.next_key::<String>()? else { return Ok(None) };
        if self.seen.contains(&key) {
            return Err(A::Error::custom(format_args!("{key:?} is given twice")));
        }
        let key = self.key.insert(key);
        seed.deserialize(StrDeserializer::<A::Error>::new(key)).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        let read = self.inner.next_value_seed(Plainly { seed, context: self.context });
        read.inspect_err(|_| self.context.note(Segment::Key(self.key.clone().unwrap_or_default())))
    }
}

/// A value to which no rule applies.
struct Plainly<'c, S> {
    seed: S,
    context: &'c Context<'c>,
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Plainly<'_, S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, inner: D) -> Result<S::Value, D::Error> {
        self.seed.deserialize(Reader::new(inner, self.context))
    }
}
