//! Undoing what nginx's `escape=default` and `escape=json` do.

/// Appends the bytes with their escapes undone; what is no escape stays.
pub fn append(mut bytes: &[u8], out: &mut Vec<u8>) {
    while let Some(backslash) = bytes.iter().position(|b| *b == b'\\') {
        out.extend_from_slice(&bytes[..backslash]);
        let escape = &bytes[backslash + 1..];
        let used = match escape {
            [c @ (b'"' | b'\\' | b'/'), ..] => push(out, *c, 1),
            [b'n', ..] => push(out, b'\n', 1),
            [b'r', ..] => push(out, b'\r', 1),
            [b't', ..] => push(out, b'\t', 1),
            [b'b', ..] => push(out, 0x08, 1),
            [b'f', ..] => push(out, 0x0c, 1),
            [b'x', rest @ ..] => hex(rest, 2).map_or(0, |code| push(out, code as u8, 3)),
            [b'u', rest @ ..] => match hex(rest, 4).and_then(char::from_u32) {
                Some(c) => {
                    out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                    5
                }
                None => 0,
            },
            _ => 0,
        };
        if used == 0 {
            out.push(b'\\');
        }
        bytes = &escape[used..];
    }
    out.extend_from_slice(bytes);
}

fn push(out: &mut Vec<u8>, byte: u8, used: usize) -> usize {
    out.push(byte);
    used
}

fn hex(bytes: &[u8], digits: usize) -> Option<u32> {
    let digits = std::str::from_utf8(bytes.get(..digits)?).ok()?;
    if digits.starts_with('+') { None } else { u32::from_str_radix(digits, 16).ok() }
}

#[cfg(test)]
mod tests {
    #[test]
    fn escapes_are_undone_and_the_rest_stays() {
        for (from, to) in [
            (r#"a\"b\\c"#, "a\"b\\c"),
            (r"\x41\x7a", "Az"),
            (r"\u0041\u20ac", "A€"),
            (r"\ud800", r"\ud800"),
            (r"\x4", r"\x4"),
            (r"\x+1", r"\x+1"),
            (r"\", r"\"),
            (r"\\\", r"\\"),
            ("", ""),
        ] {
            let mut out = Vec::new();
            super::append(from.as_bytes(), &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), to, "{from}");
        }
    }
}
