//! D-Bus messages, as far as systemd's manager needs them: what is sent (dbus.freedesktop.org/doc/dbus-specification.html,
//! "Marshaling") and the few words that are read of an answer.

/// A value of a type that D-Bus calls basic.
#[derive(Debug, Clone, PartialEq)]
pub enum Basic {
    Byte(u8),
    Bool(bool),
    I16(i16),
    U16(u16),
    I32(i32),
    U32(u32),
    I64(i64),
    U64(u64),
    Double(f64),
    Text(String),
}

impl Basic {
    /// Its type as D-Bus writes it.
    pub fn signature(&self) -> char {
        match self {
            Self::Byte(_) => 'y',
            Self::Bool(_) => 'b',
            Self::I16(_) => 'n',
            Self::U16(_) => 'q',
            Self::I32(_) => 'i',
            Self::U32(_) => 'u',
            Self::I64(_) => 'x',
            Self::U64(_) => 't',
            Self::Double(_) => 'd',
            Self::Text(_) => 's',
        }
    }
}

/// What a property may be.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    One(Basic),
    /// Values of one type, which an empty list must say too.
    Array(char, Vec<Basic>),
    /// Pairs of texts, such as `DeviceAllow`.
    Pairs(Vec<(String, String)>),
}

impl Value {
    fn signature(&self) -> String {
        match self {
            Self::One(value) => value.signature().to_string(),
            Self::Array(kind, _) => format!("a{kind}"),
            Self::Pairs(_) => "a(ss)".to_owned(),
        }
    }
}

impl From<u64> for Value {
    fn from(value: u64) -> Self {
        Self::One(Basic::U64(value))
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::One(Basic::Bool(value))
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::One(Basic::Text(value.to_owned()))
    }
}

/// A property of a unit.
pub type Property = (String, Value);

/// Bytes under way, each value where its alignment wants it.
#[derive(Debug, Default)]
pub(super) struct Body {
    pub bytes: Vec<u8>,
    pub signature: String,
}

impl Body {
    pub(super) fn text(mut self, text: &str) -> Self {
        self.signature.push('s');
        self.put_text(text);
        self
    }

    pub(super) fn flag(mut self, flag: bool) -> Self {
        self.signature.push('b');
        self.put(&Basic::Bool(flag));
        self
    }

    pub(super) fn pids(mut self, pids: &[u32]) -> Self {
        self.signature.push_str("au");
        self.put_array(4, |body| pids.iter().for_each(|pid| body.put(&Basic::U32(*pid))));
        self
    }

    pub(super) fn properties(mut self, properties: &[Property]) -> Self {
        self.signature.push_str("a(sv)");
        self.put_array(8, |body| {
            for (name, value) in properties {
                body.align(8);
                body.put_text(name);
                body.put_variant(value);
            }
        });
        self
    }

    /// The auxiliary units of StartTransientUnit: none.
    pub(super) fn no_units(mut self) -> Self {
        self.signature.push_str("a(sa(sv))");
        self.put_array(8, |_| ());
        self
    }

    fn align(&mut self, to: usize) {
        self.bytes.resize(self.bytes.len().next_multiple_of(to), 0);
    }

    fn put_number<const N: usize>(&mut self, bytes: [u8; N]) {
        self.align(N);
        self.bytes.extend(bytes);
    }

    pub(super) fn put_u32(&mut self, number: usize) {
        self.put_number(u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes());
    }

    pub(super) fn put_text(&mut self, text: &str) {
        self.put_u32(text.len());
        self.bytes.extend(text.as_bytes());
        self.bytes.push(0);
    }

    pub(super) fn put_signature(&mut self, text: &str) {
        self.bytes.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
        self.bytes.extend(text.as_bytes());
        self.bytes.push(0);
    }

    /// Its length goes before it, and does not count the padding up to the first element.
    pub(super) fn put_array(&mut self, alignment: usize, elements: impl FnOnce(&mut Self)) {
        self.put_u32(0);
        let at = self.bytes.len() - 4;
        self.align(alignment);
        let start = self.bytes.len();
        elements(self);
        let length = u32::try_from(self.bytes.len() - start).unwrap_or(u32::MAX);
        self.bytes[at..at + 4].copy_from_slice(&length.to_le_bytes());
    }

    fn put(&mut self, value: &Basic) {
        match value {
            Basic::Byte(number) => self.bytes.push(*number),
            Basic::Bool(flag) => self.put_u32(usize::from(*flag)),
            Basic::I16(number) => self.put_number(number.to_le_bytes()),
            Basic::U16(number) => self.put_number(number.to_le_bytes()),
            Basic::I32(number) => self.put_number(number.to_le_bytes()),
            Basic::U32(number) => self.put_number(number.to_le_bytes()),
            Basic::I64(number) => self.put_number(number.to_le_bytes()),
            Basic::U64(number) => self.put_number(number.to_le_bytes()),
            Basic::Double(number) => self.put_number(number.to_le_bytes()),
            Basic::Text(text) => self.put_text(text),
        }
    }

    fn put_variant(&mut self, value: &Value) {
        self.put_signature(&value.signature());
        match value {
            Value::One(value) => self.put(value),
            Value::Array(kind, values) => {
                let alignment = match kind {
                    'y' => 1,
                    'n' | 'q' => 2,
                    'x' | 't' | 'd' => 8,
                    _ => 4,
                };
                self.put_array(alignment, |body| values.iter().for_each(|value| body.put(value)));
            }
            Value::Pairs(pairs) => self.put_array(8, |body| {
                for (left, right) in pairs {
                    body.align(8);
                    body.put_text(left);
                    body.put_text(right);
                }
            }),
        }
    }
}

/// A method call to systemd's manager. `destination`: on a bus, none on a direct connection.
pub(super) struct Call<'a> {
    pub destination: Option<&'a str>,
    pub path: &'a str,
    pub interface: &'a str,
    pub member: &'a str,
}

impl Call<'_> {
    pub(super) fn message(&self, serial: u32, body: &Body) -> Vec<u8> {
        let mut message = Body::default();
        // Little endian, a method call, no flags, version 1.
        message.bytes.extend([b'l', 1, 0, 1]);
        message.put_u32(body.bytes.len());
        message.put_number(serial.to_le_bytes());
        let fields = [
            (1, 'o', Some(self.path)),
            (2, 's', Some(self.interface)),
            (3, 's', Some(self.member)),
            (6, 's', self.destination),
            (8, 'g', Some(body.signature.as_str()).filter(|signature| !signature.is_empty())),
        ];
        message.put_array(8, |message| {
            for (code, kind, text) in fields {
                let Some(text) = text else { continue };
                message.align(8);
                message.bytes.push(code);
                message.put_signature(&kind.to_string());
                if kind == 'g' { message.put_signature(text) } else { message.put_text(text) }
            }
        });
        message.align(8);
        message.bytes.extend(&body.bytes);
        message.bytes
    }
}

/// What a received message is about.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Received {
    /// 2: an answer, 3: an error, 4: a signal.
    pub kind: u8,
    pub answers: Option<u32>,
    pub member: Option<String>,
    pub error: Option<String>,
    signature: String,
    body: Vec<u8>,
}

/// Size of what every message begins with: four bytes, its body's length, its serial, the length of its fields.
pub(super) const HEAD: usize = 16;

/// How many bytes follow the first [`HEAD`] ones; `None` for what is no message, or a foreign byte order.
pub(super) fn rest_of(head: &[u8; HEAD]) -> Option<usize> {
    let number =
        |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]) as usize;
    let rest = number(12).next_multiple_of(8).checked_add(number(4))?;
    // systemd's answers are short; something of another size is none.
    (head[0] == b'l' && head[3] == 1 && rest <= 1 << 20).then_some(rest)
}

impl Received {
    /// Reads head and rest of a message; `None` where it breaks the rules.
    pub(super) fn parse(head: &[u8; HEAD], rest: &[u8]) -> Option<Self> {
        let fields = u32::from_le_bytes([head[12], head[13], head[14], head[15]]) as usize;
        let mut received = Self { kind: head[1], ..Self::default() };
        let mut reader = Reader { bytes: rest.get(..fields)?, at: 0 };
        while reader.at < fields {
            reader.align(8);
            let code = reader.byte()?;
            let kind = reader.signature()?;
            match (code, kind.as_str()) {
                (3, "s") => received.member = Some(reader.text()?),
                (4, "s") => received.error = Some(reader.text()?),
                (5, "u") => received.answers = Some(reader.u32()?),
                (8, "g") => received.signature = reader.signature()?,
                (_, "s" | "o") => drop(reader.text()?),
                (_, "u") => drop(reader.u32()?),
                (_, "g") => drop(reader.signature()?),
                _ => return None,
            }
        }
        received.body = rest.get(fields.next_multiple_of(8)..)?.to_vec();
        Some(received)
    }

    /// The texts of the body up to the first value that is none; a number counts as none and is passed over.
    pub(super) fn texts(&self) -> Vec<String> {
        let mut reader = Reader { bytes: &self.body, at: 0 };
        let mut texts = Vec::new();
        for kind in self.signature.chars() {
            match kind {
                's' | 'o' => match reader.text() {
                    Some(text) => texts.push(text),
                    None => break,
                },
                'u' if reader.u32().is_some() => {}
                'v' => match reader.signature().as_deref() {
                    Some("s") => texts.extend(reader.text()),
                    _ => break,
                },
                _ => break,
            }
        }
        texts
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn align(&mut self, to: usize) {
        self.at = self.at.next_multiple_of(to);
    }

    fn byte(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    fn u32(&mut self) -> Option<u32> {
        self.align(4);
        let bytes = self.bytes.get(self.at..self.at.checked_add(4)?)?;
        self.at += 4;
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    }

    fn string(&mut self, length: usize) -> Option<String> {
        // A zero byte ends it, and is not counted.
        let bytes = self.bytes.get(self.at..=self.at.checked_add(length)?)?;
        let (end, text) = bytes.split_last()?;
        self.at += bytes.len();
        if *end == 0 { String::from_utf8(text.to_vec()).ok() } else { None }
    }

    fn text(&mut self) -> Option<String> {
        let length = self.u32()? as usize;
        self.string(length)
    }

    fn signature(&mut self) -> Option<String> {
        let length = usize::from(self.byte()?);
        self.string(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_laid_out_as_the_specification_says() {
        let body = Body::default().text("a.scope").properties(&[
            ("MemoryMax".to_owned(), Value::from(7_u64)),
            ("PIDs".to_owned(), Value::Array('u', vec![Basic::U32(9)])),
        ]);
        assert_eq!(body.signature, "sa(sv)");
        // "a.scope" is 4 + 8 bytes, the array's length 4, and its first element begins at a multiple of 8.
        assert_eq!(&body.bytes[..12], b"\x07\0\0\0a.scope\0");
        assert_eq!(&body.bytes[16..30], b"\x09\0\0\0MemoryMax\0");
        assert_eq!(&body.bytes[30..33], b"\x01t\0");
        assert_eq!(&body.bytes[40..48], &7_u64.to_le_bytes());
        assert_eq!(usize::from(body.bytes[12]), body.bytes.len() - 16);
        let call = Call { destination: None, path: "/a", interface: "b.c", member: "D" };
        let message = call.message(5, &body);
        assert_eq!(&message[..4], b"l\x01\0\x01");
        assert_eq!(message[4..8], u32::try_from(body.bytes.len()).unwrap().to_le_bytes());
        assert!(message.ends_with(&body.bytes) && (message.len() - body.bytes.len()).is_multiple_of(8));
        // What is sent can be read back.
        let head: [u8; HEAD] = message[..HEAD].try_into().unwrap();
        assert_eq!(rest_of(&head), Some(message.len() - HEAD));
        let read = Received::parse(&head, &message[HEAD..]).unwrap();
        assert_eq!((read.kind, read.member.as_deref()), (1, Some("D")));
        assert_eq!(read.texts(), ["a.scope"]);
    }

    #[test]
    fn damaged_messages_are_none() {
        let call = Call { destination: Some("x.y"), path: "/a", interface: "b.c", member: "D" };
        let message = call.message(1, &Body::default().text("t"));
        let head: [u8; HEAD] = message[..HEAD].try_into().unwrap();
        for length in 0..message.len() - HEAD {
            // Only the body may be short; its texts are gone then.
            if let Some(read) = Received::parse(&head, &message[HEAD..HEAD + length]) {
                assert!(read.texts().is_empty(), "{length}");
            }
        }
        assert_eq!(rest_of(b"B\x01\0\x01\0\0\0\0\0\0\0\0\0\0\0\0"), None);
        assert_eq!(rest_of(b"l\x01\0\x01\xff\xff\xff\xff\0\0\0\0\xff\xff\xff\xff"), None);
    }
}
