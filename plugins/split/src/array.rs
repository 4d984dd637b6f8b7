//! Where the elements of a JSON array are. What is inside of an element that is an array or an object itself is not looked
//! at more closely than to find its end.

use std::ops::Range;

/// The places of the elements; none if the text is no array.
pub fn elements(text: &[u8], places: &mut Vec<Range<usize>>) -> Option<()> {
    places.clear();
    let mut at = skip_blank(text, 0);
    if text.get(at) != Some(&b'[') {
        return None;
    }
    at = skip_blank(text, at + 1);
    if text.get(at) == Some(&b']') {
        return (skip_blank(text, at + 1) == text.len()).then_some(());
    }
    loop {
        let end = end_of_value(text, at)?;
        places.push(at..end);
        at = skip_blank(text, end);
        match text.get(at)? {
            b',' => at = skip_blank(text, at + 1),
            b']' => return (skip_blank(text, at + 1) == text.len()).then_some(()),
            _ => return None,
        }
    }
}

fn skip_blank(text: &[u8], at: usize) -> usize {
    at + text[at..].iter().take_while(|b| matches!(b, b' ' | b'\t' | b'\n' | b'\r')).count()
}

fn end_of_value(text: &[u8], start: usize) -> Option<usize> {
    match text.get(start)? {
        b'"' => end_of_string(text, start),
        b'[' | b'{' => {
            // What is open, the outermost first.
            let mut open = Vec::new();
            let mut at = start;
            loop {
                match text.get(at)? {
                    b'"' => {
                        at = end_of_string(text, at)?;
                        continue;
                    }
                    b'[' => open.push(b']'),
                    b'{' => open.push(b'}'),
                    close @ (b']' | b'}') => {
                        if open.pop() != Some(*close) {
                            return None;
                        }
                        if open.is_empty() {
                            return Some(at + 1);
                        }
                    }
                    _ => {}
                }
                at += 1;
            }
        }
        _ => {
            let plain = |b: &&u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.');
            let end = start + text[start..].iter().take_while(plain).count();
            let word = &text[start..end];
            (matches!(word, b"null" | b"true" | b"false") || is_number(word)).then_some(end)
        }
    }
}

/// Whether it is a number as JSON has them, however many digits it has.
fn is_number(word: &[u8]) -> bool {
    let digits = |text: &[u8]| text.iter().take_while(|b| b.is_ascii_digit()).count();
    let mut rest = word.strip_prefix(b"-").unwrap_or(word);
    let whole = digits(rest);
    if whole == 0 || whole > 1 && rest[0] == b'0' {
        return false;
    }
    rest = &rest[whole..];
    if let Some(fraction) = rest.strip_prefix(b".") {
        let count = digits(fraction);
        if count == 0 {
            return false;
        }
        rest = &fraction[count..];
    }
    if let [b'e' | b'E', exponent @ ..] = rest {
        let exponent = exponent.strip_prefix(b"+").or(exponent.strip_prefix(b"-")).unwrap_or(exponent);
        return !exponent.is_empty() && digits(exponent) == exponent.len();
    }
    rest.is_empty()
}

/// Where the string ends that begins with a quote at `start`.
fn end_of_string(text: &[u8], start: usize) -> Option<usize> {
    let mut at = start + 1;
    loop {
        match text.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}
