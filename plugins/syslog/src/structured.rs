//! RFC 5424's structured data: `[id name="value" name="value"][id]`.

use weir_plugin::scan::{find, find_in, find2};

const BROKEN: &str = "structured data is broken";

/// Where the elements end that begin at `at`, if they are well formed.
pub fn end(data: &[u8], mut at: usize, end: usize) -> Result<usize, &'static str> {
    if at == end || data[at] != b'[' {
        return Err(BROKEN);
    }
    while at < end && data[at] == b'[' {
        let mut next = find2(data, at + 1, end, b' ', b']').filter(|next| *next > at + 1).ok_or(BROKEN)?;
        while data[next] == b' ' {
            let value = find(data, next, end, b'=').filter(|equals| *equals > next + 1).ok_or(BROKEN)? + 1;
            if value == end || data[value] != b'"' {
                return Err(BROKEN);
            }
            next = quote(data, value + 1, end).ok_or(BROKEN)? + 1;
            if next == end {
                return Err(BROKEN);
            }
        }
        if data[next] != b']' {
            return Err(BROKEN);
        }
        at = next + 1;
    }
    Ok(at)
}

/// Where the quote is that ends the value which begins at `at`.
fn quote(data: &[u8], mut at: usize, end: usize) -> Option<usize> {
    loop {
        let found = find2(data, at, end, b'"', b'\\')?;
        if data[found] == b'"' {
            return Some(found);
        }
        at = found + 2;
    }
}

/// Calls `each` with each element's id and none, and then with the id and each of its parameters: name and value.
/// The elements must be well formed.
pub fn parameters<'d>(elements: &'d [u8], mut each: impl FnMut(&'d [u8], Option<(&'d [u8], &'d [u8])>)) {
    let end = elements.len();
    let mut at = 0;
    while at < end {
        let Some(mut next) = find2(elements, at + 1, end, b' ', b']') else { return };
        let id = &elements[at + 1..next];
        each(id, None);
        while elements[next] == b' ' {
            let Some(equals) = find(elements, next, end, b'=') else { return };
            let Some(quote) = quote(elements, equals + 2, end) else { return };
            each(id, Some((&elements[next + 1..equals], &elements[equals + 2..quote])));
            next = quote + 1;
        }
        at = next + 1;
    }
}

/// Appends a value with its escapes undone: a backslash protects `"`, `\` and `]`, and is a byte like others else.
pub fn unescape(value: &[u8], out: &mut Vec<u8>) {
    pieces(value, |piece| out.extend_from_slice(piece));
}

fn pieces<'d>(value: &'d [u8], mut each: impl FnMut(&'d [u8])) {
    let (mut from, mut at) = (0, 0);
    while let Some(found) = find(value, at, value.len(), b'\\') {
        at = found + 1;
        if let Some(b'"' | b'\\' | b']') = value.get(at) {
            each(&value[from..found]);
            from = at;
            at += 1;
        }
    }
    each(&value[from..]);
}

/// Appends the elements as an object of objects.
pub fn write_json(elements: &[u8], out: &mut Vec<u8>) {
    // Looked for once in all of it: most texts are shorter than what is looked at in one step. Without a backslash no value
    // has a quote either.
    const SPECIAL: [(u8, u8); 2] = [(0, 0x1f), (b'\\', b'\\')];
    if find_in(elements, 0, elements.len(), &SPECIAL).is_some() {
        return write_members(elements, out, write_string, write_string);
    }
    let write_name = |name: &[u8], out: &mut Vec<u8>| match name.contains(&b'"') {
        true => write_string(name, out),
        false => write_plain(name, out),
    };
    write_members(elements, out, write_name, write_plain);
}

/// Appends the elements, their texts by these two.
#[inline(always)]
fn write_members(
    elements: &[u8],
    out: &mut Vec<u8>,
    write_name: impl Fn(&[u8], &mut Vec<u8>),
    write_value: impl Fn(&[u8], &mut Vec<u8>),
) {
    let mut is_first = true;
    parameters(elements, |id, parameter| {
        match parameter {
            None => {
                out.extend_from_slice(if is_first { b"{" } else { b"}," });
                write_name(id, out);
                out.extend_from_slice(b":{");
            }
            Some((name, value)) => {
                if out.last() != Some(&b'{') {
                    out.push(b',');
                }
                write_name(name, out);
                out.push(b':');
                write_value(value, out);
            }
        }
        is_first = false;
    });
    out.extend_from_slice(b"}}");
}

#[inline]
fn write_plain(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    out.extend_from_slice(text);
    out.push(b'"');
}

fn write_string(text: &[u8], out: &mut Vec<u8>) {
    const SPECIAL: [(u8, u8); 3] = [(0, 0x1f), (b'"', b'"'), (b'\\', b'\\')];
    out.push(b'"');
    match find_in(text, 0, text.len(), &SPECIAL) {
        None => out.extend_from_slice(text),
        Some(_) => write_escaped(text, out),
    }
    out.push(b'"');
}

#[inline(never)]
fn write_escaped(text: &[u8], out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    pieces(text, |piece| {
        for byte in piece {
            match byte {
                b'"' | b'\\' => out.extend_from_slice(&[b'\\', *byte]),
                0..0x20 => {
                    out.extend_from_slice(b"\\u00");
                    out.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
                }
                _ => out.push(*byte),
            }
        }
    });
}
