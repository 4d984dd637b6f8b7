//! RFC 5424's structured data: `[id name="value" name="value"][id]`.

use std::collections::BinaryHeap;

use weir_plugin::scan::{append, find, find_in, find2};

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

/// Appends the elements that begin at `at` as an object of objects, and says where they end. A parameter that comes more
/// than once has an array of its values; elements of the same id are one.
pub fn write_json(data: &[u8], at: usize, end: usize, out: &mut Vec<u8>) -> Result<usize, &'static str> {
    const SPECIAL: [(u8, u8); 2] = [(0, 0x1f), (b'\\', b'\\')];
    let from = out.len();
    // Looked for once in all of it: most texts are shorter than what is looked at in one step.
    let stop = write_plain(data, at, end, out).filter(|stop| find_in(data, at, *stop, &SPECIAL).is_none());
    if let Some(stop) = stop {
        return Ok(stop);
    }
    out.truncate(from);
    let stop = self::end(data, at, end)?;
    write_members(&data[at..stop], out);
    Ok(stop)
}

/// How often it is looked closer whether a name was there before: each look may read all of the line.
const MOST_LOOKS: usize = 32;

/// The same, read and written in one pass, of elements without escapes and repetitions; none if there is anything else.
#[inline(always)]
fn write_plain(data: &[u8], mut at: usize, end: usize, out: &mut Vec<u8>) -> Option<usize> {
    const AFTER_ID: [(u8, u8); 3] = [(b' ', b' '), (b'"', b'"'), (b']', b']')];
    if at == end || data[at] != b'[' {
        return None;
    }
    out.extend_from_slice(b"{\"");
    let (mut ids, mut looks) = (Seen::default(), 0);
    loop {
        let mut next = find_in(data, at + 1, end, &AFTER_ID).filter(|next| *next > at + 1)?;
        if ids.add(&data[at + 1..next]) {
            return None;
        }
        let (first, mut names) = (next, Seen::default());
        append(data, at + 1, next, out);
        out.extend_from_slice(b"\":{");
        let mut before: &[u8] = b"\"";
        while data[next] == b' ' {
            let equals = find2(data, next, end, b'=', b'"').filter(|equals| *equals > next + 1)?;
            if data[equals] != b'=' || data.get(equals + 1) != Some(&b'"') {
                return None;
            }
            if names.add(&data[next + 1..equals]) {
                looks += 1;
                if looks > MOST_LOOKS || has_name(data, first, next, &data[next + 1..equals]) {
                    return None;
                }
            }
            let quote = find(data, equals + 2, end, b'"')?;
            out.extend_from_slice(before);
            append(data, next + 1, equals, out);
            out.extend_from_slice(b"\":");
            append(data, equals + 1, quote + 1, out);
            before = b",\"";
            next = quote + 1;
            if next == end {
                return None;
            }
        }
        if data[next] != b']' {
            return None;
        }
        at = next + 1;
        if at == end || data[at] != b'[' {
            out.extend_from_slice(b"}}");
            return Some(at);
        }
        out.extend_from_slice(b"},\"");
    }
}

/// Whether the parameters that begin at `at` have one of this name.
#[inline(never)]
fn has_name(data: &[u8], mut at: usize, end: usize, name: &[u8]) -> bool {
    while at < end {
        let Some(equals) = find(data, at, end, b'=') else { return false };
        if data[at + 1..equals] == *name {
            return true;
        }
        let Some(quote) = find(data, equals + 2, end, b'"') else { return false };
        at = quote + 1;
    }
    false
}

/// Which names there were, as far as a bit each can tell: by its length and its last byte.
#[derive(Clone, Copy, Default)]
struct Seen(u64);

impl Seen {
    /// Adds a name. False if it was not there; true if it, or one with the same bit, was.
    #[inline(always)]
    fn add(&mut self, name: &[u8]) -> bool {
        let last = name.last().map_or(0, |last| usize::from(*last));
        let bit = 1 << ((11 * name.len() + last) % 64);
        let was_there = self.0 & bit != 0;
        self.0 |= bit;
        was_there
    }
}

/// Appends well formed elements as an object of objects, whatever is in them.
#[inline(never)]
fn write_members(elements: &[u8], out: &mut Vec<u8>) {
    let from = out.len();
    let (mut ids, mut names, mut may_repeat) = (Seen::default(), Seen::default(), false);
    parameters(elements, |id, parameter| match parameter {
        None => {
            out.extend_from_slice(if out.len() == from { b"{" } else { b"}," });
            write_string(id, out);
            out.extend_from_slice(b":{");
            may_repeat |= ids.add(id);
            names = Seen::default();
        }
        Some((name, value)) => {
            separate(out);
            write_string(name, out);
            out.push(b':');
            write_string(value, out);
            may_repeat |= names.add(name);
        }
    });
    out.extend_from_slice(b"}}");
    if may_repeat {
        out.truncate(from);
        write_repeated(elements, out);
    }
}

/// The same where ids or names may come more than once: in the order of ids and names.
#[inline(never)]
fn write_repeated(elements: &[u8], out: &mut Vec<u8>) {
    // A heap is sorted by a tenth of the code that a list is. Values of one name stay in their order.
    let mut heap = BinaryHeap::new();
    parameters(elements, |id, parameter| {
        // No parameter's name is empty.
        let (name, value) = parameter.unwrap_or_default();
        heap.push((id, name, heap.len(), value));
    });
    let sorted = heap.into_sorted_vec();
    out.push(b'{');
    let mut before: (&[u8], &[u8]) = (b"", b"");
    for (at, (id, name, _, value)) in sorted.iter().enumerate() {
        let is_same = |other: usize| sorted.get(other).is_some_and(|(i, n, ..)| (i, n) == (id, name));
        if *id != before.0 {
            out.extend_from_slice(if before.0.is_empty() { b"" } else { b"}," });
            write_string(id, out);
            out.extend_from_slice(b":{");
        }
        if !name.is_empty() {
            let is_first = (*id, *name) != before;
            separate(out);
            if is_first {
                write_string(name, out);
                out.extend_from_slice(if is_same(at + 1) { b":[" } else { b":" });
            }
            write_string(value, out);
            if !is_same(at + 1) && !is_first {
                out.push(b']');
            }
        }
        before = (id, name);
    }
    out.extend_from_slice(b"}}");
}

/// Appends a comma unless something has just begun.
fn separate(out: &mut Vec<u8>) {
    if !matches!(out.last(), Some(b'{')) {
        out.push(b',');
    }
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn one_pass_and_two_say_the_same(
            elements in "(\\[[ab]{1,2}( [ab]{1,20}=\"[ab \\]=\u{1}]{0,40}\"){0,3}\\]){0,3}",
            end in "[\\[\\]\"\\\\=a -]{0,12}",
            behind in "[x\"]{0,20}",
        ) {
            let line = format!("-{elements}{end}");
            let data = format!("{line}{behind}");
            let (data, mut out) = (data.as_bytes(), b"before".to_vec());
            let by_two = super::end(data, 1, line.len()).map(|stop| {
                let mut out = b"before".to_vec();
                write_members(&data[1..stop], &mut out);
                (stop, out)
            });
            let by_one = write_json(data, 1, line.len(), &mut out);
            prop_assert_eq!(by_one.map(|stop| (stop, out.clone())), by_two);
            prop_assert!(by_one.is_ok() || out == b"before");
        }
    }
}
