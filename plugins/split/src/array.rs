//! Where the elements of a JSON array are. What is inside of an element that is an array or an object itself is not looked
//! at more closely than to find its end.

use std::ops::Range;

use weir_plugin::Kind;

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
            let digits = word.strip_prefix(b"-").unwrap_or(word);
            let is_long = digits.len() > 18 && digits[0] != b'0' && digits.iter().all(u8::is_ascii_digit);
            (word == b"null" || is_long || Kind::guess(word) != Kind::Text).then_some(end)
        }
    }
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
