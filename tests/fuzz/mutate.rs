//! One change of a config, at one place.

use serde_json::{Map, Value, json};

/// Marks a string of the tree that is written without its quotes, and the second of two equal keys.
const RAW: &str = "\u{1}raw:";
const AGAIN: &str = "\u{1}again";

/// Numbers as text: most do not fit into what a field holds.
const NUMBERS: [&str; 12] = [
    "0",
    "-1",
    "1.5",
    "1e3",
    "2147483648",
    "4294967295",
    "4294967296",
    "9007199254740993",
    "9223372036854775807",
    "18446744073709551615",
    "-9223372036854775808",
    "100000000000000000000000000000",
];

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    Drop,
    Null,
    /// A value of any type, as JSON text.
    Value(String),
    /// The key in another case.
    Upper,
    Capital,
    /// A key that nobody knows instead.
    Unknown,
    /// The key twice, the second time with this value.
    Twice(String),
    /// One more item in an array, as JSON text.
    Item(String),
    /// The first item of an array once more.
    Repeat,
    /// A text with this in front.
    Front(&'static str),
}

#[derive(Debug, Clone)]
pub struct Mutation {
    /// The JSON pointer of the place.
    pub at: String,
    pub change: Change,
}

impl std::fmt::Display for Mutation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let change: String = format!("{:?}", self.change).chars().take(200).collect();
        write!(f, "{} {change}", self.at)
    }
}

fn rename(fields: &mut Map<String, Value>, key: &str, to: String) {
    if let Some(value) = fields.remove(key) {
        fields.insert(to, value);
    }
}

/// All changes of `config`, in a fixed order.
pub fn all(config: &Value) -> Vec<Mutation> {
    let mut found = Vec::new();
    walk(config, String::new(), &mut found);
    found
}

fn walk(value: &Value, at: String, found: &mut Vec<Mutation>) {
    if !at.is_empty() {
        found.extend(changes(value, &at).into_iter().map(|change| Mutation { at: at.clone(), change }));
    }
    match value {
        Value::Object(fields) => {
            for (key, field) in fields {
                walk(field, format!("{at}/{}", key.replace('~', "~0").replace('/', "~1")), found);
            }
        }
        // Items of one form are mutated once.
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate().take(2) {
                walk(item, format!("{at}/{index}"), found);
            }
        }
        _ => {}
    }
}

fn changes(value: &Value, at: &str) -> Vec<Change> {
    let mut all = vec![Change::Drop, Change::Null];
    let texts = ["\"x\"", "\"\"", "[]", "{}", "7", "true", "false", "[7]", "[[]]", "{\"x\":1}"];
    all.extend(texts.iter().map(|text| Change::Value((*text).to_owned())));
    all.push(Change::Value(json!([value]).to_string()));
    let in_object = at.rsplit('/').next().is_some_and(|key| key.parse::<usize>().is_err());
    if in_object {
        all.extend([Change::Upper, Change::Capital, Change::Unknown]);
        all.extend([Change::Twice(value.to_string()), Change::Twice("null".to_owned())]);
    }
    match value {
        Value::Number(_) => all.extend(NUMBERS.map(|number| Change::Value(number.to_owned()))),
        Value::Array(_) => {
            let items = ["null", "\"\"", "7", "[]", "{}"];
            all.extend(items.map(|item| Change::Item(item.to_owned())));
            all.push(Change::Repeat);
        }
        Value::String(_) => {
            all.extend(["\u{0}", " ", "\u{e4}\u{1f600}", "\\", "-"].map(Change::Front));
            all.push(Change::Value(json!("x".repeat(5000)).to_string()));
        }
        _ => {}
    }
    // A cgroup or root that is the host's would be changed.
    if at == "/linux/cgroupsPath" || at == "/root/path" {
        all.retain(|change| !matches!(change, Change::Front(_)));
    }
    all
}

impl Mutation {
    /// The tree with the change; what JSON's types cannot hold is marked.
    pub fn apply(&self, config: &Value) -> Value {
        let mut config = config.clone();
        let (parent, key) = self.at.rsplit_once('/').expect("a pointer");
        let key = key.replace("~1", "/").replace("~0", "~");
        match config.pointer_mut(parent) {
            Some(Value::Object(fields)) => self.change.in_object(fields, &key),
            Some(Value::Array(items)) => self.change.in_array(items, key.parse().expect("an index")),
            _ => panic!("no {parent} in the config"),
        }
        config
    }

    /// Whether it puts a value of another type there, which is not null.
    pub fn is_of_another_type(&self, config: &Value) -> bool {
        let was = config.pointer(&self.at);
        match &self.change {
            Change::Value(text) => {
                let now: Result<Value, _> = serde_json::from_str(text);
                was.zip(now.ok())
                    .is_some_and(|(was, now)| std::mem::discriminant(was) != std::mem::discriminant(&now))
            }
            // Of arrays of one type.
            Change::Item(text) => {
                let first = was.and_then(|was| was.get(0));
                let now: Value = serde_json::from_str(text).expect("JSON");
                !now.is_null()
                    && first.is_some_and(|was| std::mem::discriminant(was) != std::mem::discriminant(&now))
            }
            _ => false,
        }
    }
}

fn marked(text: &str) -> Value {
    Value::String(format!("{RAW}{text}"))
}

impl Change {
    fn in_object(&self, fields: &mut Map<String, Value>, key: &str) {
        let old = fields.get(key).cloned().unwrap_or_default();
        match self {
            Self::Drop => drop(fields.remove(key)),
            Self::Upper => rename(fields, key, key.to_uppercase()),
            Self::Capital => rename(fields, key, key[..1].to_uppercase() + &key[1..]),
            Self::Unknown => rename(fields, key, format!("{key}x")),
            Self::Twice(text) => drop(fields.insert(format!("{key}{AGAIN}"), marked(text))),
            _ => drop(fields.insert(key.to_owned(), self.of(old))),
        }
    }

    fn in_array(&self, items: &mut Vec<Value>, index: usize) {
        if *self == Self::Drop {
            items.remove(index);
        } else {
            items[index] = self.of(std::mem::take(&mut items[index]));
        }
    }

    fn of(&self, old: Value) -> Value {
        match (self, old) {
            (Self::Null, _) => Value::Null,
            (Self::Value(text), _) => serde_json::from_str(text)
                .ok()
                .filter(|value: &Value| !value.is_number())
                .unwrap_or_else(|| marked(text)),
            (Self::Item(text), Value::Array(mut items)) => {
                items.push(marked(text));
                items.into()
            }
            (Self::Repeat, Value::Array(mut items)) => {
                items.extend(items.first().cloned());
                items.into()
            }
            (Self::Front(front), Value::String(text)) => format!("{front}{text}").into(),
            (_, old) => old,
        }
    }
}

/// The text of a tree, with what is marked.
pub fn text(config: &Value) -> String {
    let text = serde_json::to_string_pretty(config).expect("JSON").replace("\\u0001again", "");
    let mut parts = text.split("\"\\u0001raw:");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        // Up to the quote that ends the string; within it they are escaped.
        let mut end = 0;
        let bytes = part.as_bytes();
        while bytes[end] != b'"' {
            end += if bytes[end] == b'\\' { 2 } else { 1 };
        }
        let raw: String = serde_json::from_str(&format!("\"{}\"", &part[..end])).expect("a JSON string");
        out.push_str(&raw);
        out.push_str(&part[end + 1..]);
    }
    out
}

/// The text of a marked value.
pub fn raw(value: &Value) -> Option<&str> {
    value.as_str()?.strip_prefix(RAW)
}
