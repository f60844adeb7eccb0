//! The little of protobuf that criu's RPC needs: varints and length-delimited fields.

/// A message being written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Message(Vec<u8>);

impl Message {
    /// The encoded message.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// A number or an enumeration. Negative ones take ten bytes, as protobuf's int32 does.
    pub(super) fn int(&mut self, field: u32, value: i64) -> &mut Self {
        self.varint(u64::from(field) << 3);
        self.varint(value.cast_unsigned());
        self
    }

    /// A flag.
    pub(super) fn flag(&mut self, field: u32, value: bool) -> &mut Self {
        self.int(field, i64::from(value))
    }

    /// A string.
    pub(super) fn text(&mut self, field: u32, value: impl AsRef<[u8]>) -> &mut Self {
        let value = value.as_ref();
        self.varint(u64::from(field) << 3 | 2);
        self.varint(value.len() as u64);
        self.0.extend_from_slice(value);
        self
    }

    /// A message inside this one.
    pub(super) fn message(&mut self, field: u32, value: &Self) -> &mut Self {
        self.text(field, &value.0)
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.0.push((value & 0x7f) as u8);
    }
}

/// A field that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value<'a> {
    /// A number, a flag, an enumeration.
    Int(u64),
    /// A string or a message.
    Bytes(&'a [u8]),
}

impl<'a> Value<'a> {
    /// The number, 0 if it is something else. Cut to 32 bits, as protobuf does for int32.
    #[expect(clippy::cast_possible_truncation, reason = "a negative int32 is sent sign-extended to 64 bits")]
    pub(super) fn int(self) -> i32 {
        if let Value::Int(value) = self { (value as u32).cast_signed() } else { 0 }
    }

    /// The string or message, empty if it is a number.
    pub(super) fn bytes(self) -> &'a [u8] {
        if let Value::Bytes(bytes) = self { bytes } else { &[] }
    }

    /// The string.
    pub(super) fn text(self) -> String {
        String::from_utf8_lossy(self.bytes()).into_owned()
    }
}

/// The fields of an encoded message, in order; none where it is not one.
pub(super) fn fields(mut bytes: &[u8]) -> Option<Vec<(u32, Value<'_>)>> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes)?;
        let value = match key & 7 {
            0 => Value::Int(varint(&mut bytes)?),
            1 => Value::Bytes(take(&mut bytes, 8)?),
            2 => {
                let length = usize::try_from(varint(&mut bytes)?).ok()?;
                Value::Bytes(take(&mut bytes, length)?)
            }
            5 => Value::Bytes(take(&mut bytes, 4)?),
            _ => return None,
        };
        fields.push((u32::try_from(key >> 3).ok()?, value));
    }
    Some(fields)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_protobufs() {
        let mut inner = Message::default();
        inner.int(1, 150);
        assert_eq!(inner.bytes(), [0x08, 0x96, 0x01]);
        let mut message = Message::default();
        message.text(2, "testing").message(3, &inner).flag(68, true).int(1, -1);
        let expected =
            b"\x12\x07testing\x1a\x03\x08\x96\x01\xa0\x04\x01\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01";
        assert_eq!(message.bytes(), expected);
    }

    #[test]
    fn what_is_written_is_read() {
        let mut message = Message::default();
        message.int(1, -7).text(51, "conf").flag(3, false);
        let read = fields(message.bytes()).unwrap();
        assert_eq!(read.iter().map(|(field, _)| *field).collect::<Vec<_>>(), [1, 51, 3]);
        assert_eq!((read[0].1.int(), read[1].1.text().as_str(), read[2].1.int()), (-7, "conf", 0));
    }

    #[test]
    fn a_cut_message_is_none() {
        assert_eq!(fields(&[0x12, 0x07, b't']), None);
        assert_eq!(fields(&[0x80]), None);
        assert_eq!(fields(&[0xff; 11]), None);
        assert_eq!(fields(&[]), Some(vec![]));
    }
}
