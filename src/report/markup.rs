//! Text inside XML and HTML.

use std::fmt::{self, Write};

/// Displays as text that has no meaning in XML and HTML, in elements and in quoted attributes. Characters that XML
/// cannot hold (control characters) become U+FFFD.
pub struct Escaped<'a>(pub &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                '\n' | '\t' => f.write_char(c)?,
                c if c.is_control() => f.write_char('\u{fffd}')?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_gets_out_of_its_element_or_attribute() {
        let text = Escaped("<b x=\"1\" y='2'>&\u{1b}\n").to_string();
        assert_eq!(text, "&lt;b x=&quot;1&quot; y=&#39;2&#39;&gt;&amp;\u{fffd}\n");
    }
}
