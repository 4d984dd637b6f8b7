//! What kind a value is, by its looks.

use crate::Kind;

/// Digits of the longest number that is taken for an integer: one more may not fit into 64 bits.
const MOST_DIGITS: usize = 18;

impl Kind {
    /// Whether the text is a number or a boolean as JSON writes them; everything else is text, also numbers with zeros
    /// in front or more digits than 64 bits hold, which are names more often than numbers.
    #[inline]
    pub fn guess(text: &[u8]) -> Kind {
        match text.first() {
            Some(b'-' | b'0'..=b'9') => number(text),
            Some(b't' | b'f') if text == b"true" || text == b"false" => Kind::Boolean,
            _ => Kind::Text,
        }
    }
}

#[inline]
fn number(text: &[u8]) -> Kind {
    let digits = |from: &[u8]| from.iter().take_while(|b| b.is_ascii_digit()).count();
    let text = text.strip_prefix(b"-").unwrap_or(text);
    let whole = digits(text);
    if whole == 0 || whole > MOST_DIGITS || (text[0] == b'0' && whole > 1) {
        return Kind::Text;
    }
    let mut rest = &text[whole..];
    if rest.is_empty() {
        return Kind::Integer;
    }
    if let [b'.', after @ ..] = rest {
        let count = digits(after);
        if count == 0 {
            return Kind::Text;
        }
        rest = &after[count..];
    }
    if let [b'e' | b'E', after @ ..] = rest {
        let after = after.strip_prefix(b"-").or(after.strip_prefix(b"+")).unwrap_or(after);
        let count = digits(after);
        if count == 0 {
            return Kind::Text;
        }
        rest = &after[count..];
    }
    if rest.is_empty() { Kind::Float } else { Kind::Text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_json_would_write_without_quotes_is_no_text() {
        for (text, kind) in [
            ("0", Kind::Integer),
            ("-12", Kind::Integer),
            ("123456789012345678", Kind::Integer),
            ("1234567890123456789", Kind::Text),
            ("1.50", Kind::Float),
            ("-0.5e-3", Kind::Float),
            ("1E+3", Kind::Float),
            ("true", Kind::Boolean),
            ("false", Kind::Boolean),
            ("", Kind::Text),
            ("-", Kind::Text),
            ("+1", Kind::Text),
            ("007", Kind::Text),
            ("1.", Kind::Text),
            (".5", Kind::Text),
            ("1e", Kind::Text),
            ("1.5e+", Kind::Text),
            ("12ms", Kind::Text),
            ("1.2.3.4", Kind::Text),
            ("True", Kind::Text),
            ("trueish", Kind::Text),
        ] {
            assert_eq!(Kind::guess(text.as_bytes()), kind, "{text}");
            let json = serde_json::from_str::<serde_json::Value>(text);
            assert!(kind == Kind::Text || json.is_ok_and(|value| value.is_number() || value.is_boolean()), "{text}");
        }
    }
}
