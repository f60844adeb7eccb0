//! Properties of a unit that annotations ask for (`org.systemd.property.NAME`), in the text form of GVariant, by runc's
//! rules: `uint64 123`, `'inactive-or-failed'`, `true`, `['a.service', 'b.service']`.

use std::collections::BTreeMap;

use super::super::{CgroupError, Result};
use crate::systemd::{Basic, Property, Value};

const PREFIX: &str = "org.systemd.property.";

/// The properties among all annotations, in the order of their names.
///
/// # Errors
/// A name that is none, or a value that cannot be read.
pub(in crate::runtime) fn from_annotations(annotations: &BTreeMap<String, String>) -> Result<Vec<Property>> {
    let asked = annotations.iter().filter_map(|(key, text)| Some((key.strip_prefix(PREFIX)?, text)));
    asked
        .map(|(name, text)| {
            let wrong = |reason: &str| CgroupError::Annotation {
                key: format!("{PREFIX}{name}"),
                text: text.clone(),
                reason: reason.to_owned(),
            };
            if name.len() < 3 || !name.chars().all(|letter| letter.is_ascii_alphabetic()) {
                return Err(wrong("the name of a property has at least 3 letters and nothing else"));
            }
            let value = parse(text)
                .ok_or_else(|| wrong("cannot be read as a GVariant text such as uint64 5 or 'text'"))?;
            in_microseconds(name, value).ok_or_else(|| wrong("a time in seconds must be a number"))
        })
        .collect()
}

/// systemd documents times as `…Sec` and takes them as `…USec`.
fn in_microseconds(name: &str, value: Value) -> Option<Property> {
    let stem =
        name.strip_suffix("Sec").filter(|stem| stem.ends_with(|letter: char| letter.is_ascii_lowercase()));
    let Some(stem) = stem else { return Some((name.to_owned(), value)) };
    let seconds = |seconds: u64| seconds.checked_mul(1_000_000);
    let Value::One(value) = value else { return None };
    let micros = match value {
        Basic::Byte(n) => seconds(n.into()),
        Basic::U16(n) => seconds(n.into()),
        Basic::U32(n) => seconds(n.into()),
        Basic::U64(n) => seconds(n),
        Basic::I16(n) => seconds(n.try_into().ok()?),
        Basic::I32(n) => seconds(n.try_into().ok()?),
        Basic::I64(n) => seconds(n.try_into().ok()?),
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked to be in range")]
        Basic::Double(n) if (0.0..1e12).contains(&n) => Some((n * 1e6) as u64),
        _ => None,
    }?;
    Some((format!("{stem}USec"), Value::from(micros)))
}

fn parse(text: &str) -> Option<Value> {
    let text = text.trim();
    // `@as []`: an array with its type said.
    let (kind, text) = match text.strip_prefix("@a") {
        Some(rest) => (rest.chars().next(), rest.get(1..)?.trim_start()),
        None => (None, text),
    };
    let Some(inside) = text.strip_prefix('[') else {
        return kind.is_none().then(|| basic(text)).flatten().map(Value::One);
    };
    let values = elements(inside.strip_suffix(']')?)?;
    let kind = match (kind, values.first()) {
        (Some(kind), None) => kind,
        (kind, Some(first)) => kind.or(Some(first.signature())).filter(|kind| *kind == first.signature())?,
        (None, None) => return None,
    };
    values.iter().all(|value| value.signature() == kind).then_some(Value::Array(kind, values))
}

/// The values between the commas; a comma between quotes is text.
fn elements(text: &str) -> Option<Vec<Basic>> {
    let mut parts = vec![String::new()];
    let (mut quote, mut escaped) = (None, false);
    for letter in text.chars() {
        match (quote, letter) {
            (None, ',') => {
                parts.push(String::new());
                continue;
            }
            (None, '\'' | '"') => quote = Some(letter),
            (Some(open), letter) if open == letter && !escaped => quote = None,
            _ => {}
        }
        escaped = letter == '\\' && !escaped;
        parts.last_mut()?.push(letter);
    }
    if parts.len() == 1 && parts[0].trim().is_empty() {
        return Some(Vec::new());
    }
    parts.iter().map(|part| basic(part.trim())).collect()
}

fn basic(text: &str) -> Option<Basic> {
    match text {
        "true" => return Some(Basic::Bool(true)),
        "false" => return Some(Basic::Bool(false)),
        _ => {}
    }
    if let Some(open) = text.chars().next().filter(|open| matches!(open, '\'' | '"')) {
        return quoted(text, open).map(Basic::Text);
    }
    let Some((kind, number)) = text.split_once(char::is_whitespace) else {
        // Without a type a number is an int32, or a double with a point.
        return text.parse().map(Basic::I32).ok().or_else(|| {
            text.contains('.')
                .then(|| text.parse().ok().filter(|n: &f64| n.is_finite()).map(Basic::Double))?
        });
    };
    let number = number.trim();
    match kind {
        "boolean" => number.parse().map(Basic::Bool).ok(),
        "byte" => number.parse().map(Basic::Byte).ok(),
        "int16" => number.parse().map(Basic::I16).ok(),
        "uint16" => number.parse().map(Basic::U16).ok(),
        "int32" => number.parse().map(Basic::I32).ok(),
        "uint32" => number.parse().map(Basic::U32).ok(),
        "int64" => number.parse().map(Basic::I64).ok(),
        "uint64" => number.parse().map(Basic::U64).ok(),
        "double" => number.parse().ok().filter(|n: &f64| n.is_finite()).map(Basic::Double),
        "string" => quoted(number, number.chars().next()?).map(Basic::Text),
        _ => None,
    }
}

fn quoted(text: &str, open: char) -> Option<String> {
    let inside = text
        .strip_prefix(open)?
        .strip_suffix(open)
        .filter(|_| matches!(open, '\'' | '"') && text.len() > 1)?;
    let mut letters = inside.chars();
    let mut plain = String::new();
    while let Some(letter) = letters.next() {
        plain.push(match letter {
            '\\' => match letters.next()? {
                'n' => '\n',
                't' => '\t',
                other => other,
            },
            letter if letter == open => return None,
            letter => letter,
        });
    }
    Some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(name: &str, text: &str) -> Result<Vec<Property>> {
        from_annotations(&BTreeMap::from([(format!("{PREFIX}{name}"), text.to_owned())]))
    }

    #[test]
    fn texts_of_gvariant_become_values() {
        let cases = [
            ("uint64 123", Value::from(123)),
            ("'inactive-or-failed'", Value::from("inactive-or-failed")),
            (r#""a\"b""#, Value::from("a\"b")),
            ("true", Value::from(true)),
            ("-7", Value::One(Basic::I32(-7))),
            ("1.5", Value::One(Basic::Double(1.5))),
            ("byte 255", Value::One(Basic::Byte(255))),
            ("['a,b', 'c']", Value::Array('s', vec![Basic::Text("a,b".into()), Basic::Text("c".into())])),
            ("@as []", Value::Array('s', Vec::new())),
            ("[uint32 1, uint32 2]", Value::Array('u', vec![Basic::U32(1), Basic::U32(2)])),
        ];
        for (text, value) in cases {
            assert_eq!(one("CollectMode", text).unwrap(), [("CollectMode".to_owned(), value)], "{text}");
        }
        let others = BTreeMap::from([("io.kubernetes.x".to_owned(), "y".to_owned())]);
        assert!(from_annotations(&others).unwrap().is_empty());
    }

    #[test]
    fn seconds_become_microseconds() {
        assert_eq!(
            one("TimeoutStopSec", "uint64 5").unwrap(),
            [("TimeoutStopUSec".to_owned(), Value::from(5_000_000))]
        );
        assert_eq!(one("TimeoutStopSec", "1.5").unwrap()[0].1, Value::from(1_500_000));
        assert_eq!(one("TimeoutStopUSec", "uint64 5").unwrap()[0].0, "TimeoutStopUSec");
        for bad in ["'5'", "-5", "uint64 18446744073709551615"] {
            assert!(one("TimeoutStopSec", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        for bad in [
            "", "uint64 x", "uint64", "'open", "'", "[1, 'a']", "[]", "{'a': 1}", "word", "byte 256", "'a'b'",
        ] {
            let error = one("CollectMode", bad).unwrap_err().to_string();
            assert!(error.starts_with("annotation org.systemd.property.CollectMode="), "{error}");
        }
        for name in ["", "ab", "A-b-c", "Größe"] {
            assert!(one(name, "true").is_err(), "{name}");
        }
    }
}
