//! Text that others chose (names of processes, cgroups and files, records, what hooks printed), for a terminal or a
//! report: nothing in it may command the terminal or turn the order of what is read.

use std::borrow::Cow;
use std::fmt::Write;

/// `text` of many lines, with every other control character written as `\u001b`, which in JSON means the same.
#[must_use]
pub fn printable(text: &str) -> Cow<'_, str> {
    // Most text is this, and a look at bytes that does not stop early takes the processor a twentieth.
    let odd = |byte: u8| (byte < b' ') & (byte != b'\n') & (byte != b'\t') | (byte > b'~');
    if !text.bytes().fold(false, |found, byte| found | odd(byte)) {
        return Cow::Borrowed(text);
    }
    written_out(text, |c| c != '\n' && c != '\t' && is_command(c))
}

/// As [`printable`], of what is one line.
#[must_use]
pub fn printable_line(text: &str) -> Cow<'_, str> {
    written_out(text, is_command)
}

/// Adds a line: nothing in it makes another.
pub fn put_line(text: &mut String, line: &str) {
    text.push_str(&printable_line(line));
    text.push('\n');
}

/// A control character, or one that sets the direction of what follows.
fn is_command(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn written_out(text: &str, is_command: impl Fn(char) -> bool) -> Cow<'_, str> {
    let Some(first) = text.find(&is_command) else { return Cow::Borrowed(text) };
    let mut plain = String::with_capacity(text.len() + 8);
    plain.push_str(&text[..first]);
    for c in text[first..].chars() {
        if is_command(c) {
            let _ = write!(plain, "\\u{:04x}", u32::from(c));
        } else {
            plain.push(c);
        }
    }
    Cow::Owned(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_commands_a_terminal() {
        let hostile = "a\x1b]0;owned\x07\r\u{9b}2J\x7f\u{202e}é\tb\n";
        assert_eq!(printable(hostile), "a\\u001b]0;owned\\u0007\\u000d\\u009b2J\\u007f\\u202eé\tb\n");
        assert_eq!(printable_line("a\nb\tc"), "a\\u000ab\\u0009c");
        let mut text = String::new();
        put_line(&mut text, "a\n*** \x1b[2J");
        assert_eq!(text, "a\\u000a*** \\u001b[2J\n");
        let every: String = (0..=0x10_ffff).filter_map(char::from_u32).collect();
        assert!(!printable(&every).chars().any(|c| c.is_control() && c != '\n' && c != '\t'));
        assert!(!printable_line(&every).chars().any(char::is_control));
    }

    #[test]
    fn other_text_is_as_it_was() {
        assert!(matches!(printable("é \\u001b ✓\n\tx"), Cow::Borrowed("é \\u001b ✓\n\tx")));
    }

    #[test]
    fn json_means_the_same_afterwards() {
        let value = serde_json::json!({ "name": "\x1b[31m\u{9b}\x7f\u{202e}" });
        let text = serde_json::to_string_pretty(&value).unwrap();
        assert_eq!(serde_json::from_str::<serde_json::Value>(&printable(&text)).unwrap(), value);
    }
}
