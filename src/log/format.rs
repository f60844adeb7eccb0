//! logrus' two formats, byte for byte: what engines parse.

use std::fmt::Write;
use std::time::Duration;

/// `{"level":"…","msg":"…","time":"…"}`: the keys sorted, as logrus has them.
pub(super) fn json(since_epoch: Duration, level: &str, message: &str, fields: &[(&str, String)]) -> String {
    let mut pairs = vec![("level", level), ("msg", message)];
    let time = rfc3339(since_epoch);
    pairs.push(("time", &time));
    for (name, value) in fields {
        // logrus moves a field that clashes out of the way in the same manner.
        let name = match *name {
            "level" => "fields.level",
            "msg" => "fields.msg",
            "time" => "fields.time",
            name => name,
        };
        pairs.push((name, value));
    }
    pairs.sort_unstable_by_key(|(name, _)| *name);
    let mut line = String::with_capacity(message.len() + 80);
    for (name, value) in pairs {
        line.push(if line.is_empty() { '{' } else { ',' });
        json_string(&mut line, name);
        line.push(':');
        json_string(&mut line, value);
    }
    line.push_str("}\n");
    line
}

fn json_string(line: &mut String, text: &str) {
    line.push('"');
    for c in text.chars() {
        match c {
            '"' => line.push_str("\\\""),
            '\\' => line.push_str("\\\\"),
            '\n' => line.push_str("\\n"),
            '\r' => line.push_str("\\r"),
            '\t' => line.push_str("\\t"),
            c if c.is_control() => drop(write!(line, "\\u{:04x}", u32::from(c))),
            c => line.push(c),
        }
    }
    line.push('"');
}

/// `time="…" level=… msg="…" field=value`: quotes only where they are needed.
pub(super) fn text(since_epoch: Duration, level: &str, message: &str, fields: &[(&str, String)]) -> String {
    let mut line = String::with_capacity(message.len() + 80);
    line.push_str("time=");
    quoted(&mut line, &rfc3339(since_epoch));
    line.push_str(" level=");
    line.push_str(level);
    line.push_str(" msg=");
    quoted(&mut line, message);
    for (name, value) in fields {
        line.push(' ');
        line.push_str(name);
        line.push('=');
        quoted(&mut line, value);
    }
    line.push('\n');
    line
}

/// Go's `%q` for what has more in it than logrus' plain characters.
fn quoted(line: &mut String, text: &str) {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._/@^+".contains(c);
    if text.chars().all(plain) {
        line.push_str(text);
        return;
    }
    line.push('"');
    for c in text.chars() {
        match c {
            '"' => line.push_str("\\\""),
            '\\' => line.push_str("\\\\"),
            '\n' => line.push_str("\\n"),
            '\r' => line.push_str("\\r"),
            '\t' => line.push_str("\\t"),
            '\x07' => line.push_str("\\a"),
            '\x08' => line.push_str("\\b"),
            '\x0b' => line.push_str("\\v"),
            '\x0c' => line.push_str("\\f"),
            c if c < ' ' || c == '\x7f' => drop(write!(line, "\\x{:02x}", u32::from(c))),
            c if c.is_control() => drop(write!(line, "\\u{:04x}", u32::from(c))),
            c => line.push(c),
        }
    }
    line.push('"');
}

/// A time in UTC, to the second.
fn rfc3339(since_epoch: Duration) -> String {
    let seconds = since_epoch.as_secs();
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Civil date from days, by H. Hinnant's method: years begin in March, in eras of 400 years.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: Duration = Duration::from_secs(1_709_210_096);

    #[test]
    fn times_are_civil() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_210_096, "2024-02-29T12:34:56Z"),
            (4_102_444_799, "2099-12-31T23:59:59Z"),
        ] {
            assert_eq!(rfc3339(Duration::from_secs(seconds)), expected);
        }
    }

    #[test]
    fn json_is_one_object_a_line() {
        let line = json(TIME, "error", "say \"no\"\n\x01é", &[]);
        let expected = r#"{"level":"error","msg":"say \"no\"\n\u0001é","time":"2024-02-29T12:34:56Z"}"#;
        assert_eq!(line, format!("{expected}\n"));
        let line = json(TIME, "info", "x", &[("pid", "5".to_owned()), ("msg", "y".to_owned())]);
        let parsed: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(
            (&parsed["fields.msg"], &parsed["pid"], &parsed["msg"]),
            (&"y".into(), &"5".into(), &"x".into())
        );
    }

    #[test]
    fn text_is_quoted_where_needed() {
        let line = text(TIME, "warning", "plain/word", &[("pid", "5".to_owned()), ("why", "a b".to_owned())]);
        assert_eq!(line, "time=\"2024-02-29T12:34:56Z\" level=warning msg=plain/word pid=5 why=\"a b\"\n");
        let line = text(TIME, "error", "\x1b]0;x\x07\u{9b}", &[("name", "\u{85}".to_owned())]);
        assert!(line.ends_with("msg=\"\\x1b]0;x\\a\\u009b\" name=\"\\u0085\"\n"), "{line}");
        assert!(text(TIME, "error", "a\t\"b\\\x01", &[]).ends_with("msg=\"a\\t\\\"b\\\\\\x01\"\n"));
    }
}
