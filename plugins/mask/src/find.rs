//! Where secrets are. Each is sought by itself, so that no text takes more than linear time for the known ones.

use std::ops::Range;

use weir_plugin::network::parse_address;
use weir_plugin::prelude::*;
use weir_plugin::scan;
use weir_plugin_regex::Search;

/// A known sort of secret.
#[derive(Clone, Copy, Deserialize, PartialEq, Eq, Settings)]
#[serde(rename_all = "snake_case")]
pub enum Secret {
    /// The number of a payment card: 13 to 19 digits, also with single spaces or `-` between, that begin with 2 to 6 and
    /// have the right check digit.
    Card,
    /// An e-mail address.
    Email,
    /// An IP address of version 4 or 6.
    Ip,
    /// What follows `Bearer` or `Basic`.
    Bearer,
    /// A JSON Web Token.
    Jwt,
    /// An access key of AWS, or what follows `aws_secret_access_key`.
    AwsKey,
    /// The whole field.
    Whole,
}

/// What finds one sort of places.
pub enum Finder {
    Card,
    Email,
    Ipv4,
    Ipv6,
    Pattern(Box<Search>),
    /// A pattern that begins at a word's beginning, with one of these bytes, and has neither `\` nor `%` in it.
    Word(Box<Search>, &'static [u8]),
    Whole,
}

const BEARER: &str = r"(?i)\b(?:bearer|basic)[ +:=]+([a-z0-9._~+/=-]{6,})";
const JWT: &str = r"\beyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*";
const AWS_ID: &str = r"\b(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}\b";
const AWS_SECRET: &str = r#"(?i)aws_?-?secret_?-?(?:access_?-?)?key(?:\\?["']){0,2}[ \t]{0,4}[=:][ \t]{0,4}(?:\\?["'])?([A-Za-z0-9/+=]{40})"#;

impl Secret {
    pub fn finders(self) -> Vec<Finder> {
        let search = |pattern: &str| Box::new(Search::new(pattern, false).expect("known patterns are right"));
        match self {
            Secret::Card => vec![Finder::Card],
            Secret::Email => vec![Finder::Email],
            Secret::Ip => vec![Finder::Ipv4, Finder::Ipv6],
            Secret::Bearer => vec![Finder::Word(search(BEARER), b"bB")],
            Secret::Jwt => vec![Finder::Word(search(JWT), b"e")],
            Secret::AwsKey => vec![Finder::Word(search(AWS_ID), b"A"), Finder::Pattern(search(AWS_SECRET))],
            Secret::Whole => vec![Finder::Whole],
        }
    }
}

impl Finder {
    /// Whether it has to know if there are escapes.
    pub fn minds_escapes(&self) -> bool {
        matches!(self, Finder::Word(..))
    }

    pub fn pattern(pattern: &str) -> Result<Self, String> {
        Ok(Finder::Pattern(Box::new(Search::new(pattern, false)?)))
    }

    /// Tells of each place. Only where there are escapes at all is it looked at what stands behind one.
    pub fn find(&mut self, text: &[u8], has_escapes: bool, place: &mut impl FnMut(Range<usize>)) {
        match self {
            Finder::Card => cards(text, place),
            Finder::Email => emails(text, place),
            Finder::Ipv4 => ipv4(text, place),
            Finder::Ipv6 => ipv6(text, place),
            Finder::Pattern(search) => pattern(search, text, place),
            Finder::Word(search, first) => {
                pattern(search, text, place);
                if has_escapes {
                    after_escapes(text, first, |start, end| {
                        if let Some((found, group)) = search.find_group(&text[start..end], 0)
                            && found.start == 0
                        {
                            place(start + group.start..start + group.end);
                        }
                    });
                }
            }
            Finder::Whole if text.is_empty() => {}
            Finder::Whole => place(0..text.len()),
        }
    }
}

fn pattern(search: &mut Search, text: &[u8], place: &mut impl FnMut(Range<usize>)) {
    let mut at = 0;
    while at <= text.len()
        && let Some((found, group)) = search.find_group(text, at)
    {
        at = if found.is_empty() { found.end + 1 } else { found.end };
        if !group.is_empty() {
            place(group);
        }
    }
}

/// Whether there may be escapes of JSON or of URLs.
pub fn has_escapes(text: &[u8]) -> bool {
    scan::find2(text, 0, text.len(), b'\\', b'%').is_some()
}

/// Bytes of `\u0020`.
const LONGEST_ESCAPE: usize = 6;

/// Where the escape ends that begins here: `\n` and the like, `\u0020`, `%20`. Letters and digits of an escape are no
/// part of the word behind it.
fn after_escape(text: &[u8], at: usize) -> Option<usize> {
    let (first, count) = match text.get(at..)? {
        [b'\\', b'n' | b'r' | b't' | b'b' | b'f', ..] => return Some(at + 2),
        [b'\\', b'u', ..] => (at + 2, 4),
        [b'%', ..] => (at + 1, 2),
        _ => return None,
    };
    let digits = text.get(first..first + count)?;
    digits.iter().all(u8::is_ascii_hexdigit).then_some(first + count)
}

/// Tells of each piece behind an escape that begins with one of the bytes, up to the next `\` or `%`.
fn after_escapes(text: &[u8], first: &[u8], mut each: impl FnMut(usize, usize)) {
    let mut at = 0;
    while let Some(sign) = scan::find2(text, at, text.len(), b'\\', b'%') {
        at = sign + 1;
        if let Some(start) = after_escape(text, sign) {
            at = start;
            if text.get(start).is_some_and(|byte| first.contains(byte)) {
                each(start, scan::find2(text, start, text.len(), b'\\', b'%').unwrap_or(text.len()));
            }
        }
    }
}

const SHORTEST_CARD: usize = 13;
const LONGEST_CARD: usize = 19;

fn cards(text: &[u8], place: &mut impl FnMut(Range<usize>)) {
    let card_at = |start: usize| card_at(text, start).filter(|end| !is_in_id(text, start, *end));
    let mut at = 0;
    while let Some(start) = scan::find_in(text, at, text.len(), &[(b'0', b'9')]) {
        let mut card = card_at(start).filter(|_| !text[..start].ends_with(b"\\u")).map(|end| start..end);
        if card.is_none() {
            // No card begins inside of a run of digits,
            at = start + scan::digits(text, start, text.len());
            // unless the first ones are an escape's.
            card =
                escape_around(text, start).filter(|first| *first < at).and_then(|first| Some(first..card_at(first)?));
        }
        if let Some(card) = card {
            at = card.end;
            place(card);
        }
    }
}

/// Where the escape ends that begins before these digits, if it can have any of them.
#[inline]
fn escape_around(text: &[u8], start: usize) -> Option<usize> {
    let before = *text[..start].last()?;
    if !matches!(before, b'%' | b'u' | b'a'..=b'f' | b'A'..=b'F') {
        return None;
    }
    (1..LONGEST_ESCAPE).find_map(|back| after_escape(text, start.checked_sub(back)?))
}

/// Hexadecimal digits of the shortest hash or id, of MongoDB, and of the longest, SHA-512.
const SHORTEST_ID: usize = 24;
const LONGEST_ID: usize = 128;

/// Whether the digits are in a run of hexadecimal ones, as hashes and ids are, or in a UUID.
fn is_in_id(text: &[u8], start: usize, end: usize) -> bool {
    let word = |byte: &&u8| byte.is_ascii_alphanumeric();
    let before = text[..start].iter().rev().take(LONGEST_ID).take_while(word).count();
    let behind = text[end..].iter().take(LONGEST_ID).take_while(word).count();
    let run = &text[start - before..end + behind];
    let is_hex = (SHORTEST_ID..=LONGEST_ID).contains(&run.len()) && run.iter().all(u8::is_ascii_hexdigit);
    is_hex || (start.saturating_sub(UUID - 1)..=start).any(|at| at + UUID >= end && is_uuid(&text[at..]))
}

/// Bytes of a UUID.
const UUID: usize = 36;

fn is_uuid(text: &[u8]) -> bool {
    let fits = |(at, byte): (usize, &u8)| match at {
        8 | 13 | 18 | 23 => *byte == b'-',
        _ => byte.is_ascii_hexdigit(),
    };
    text.get(..UUID).is_some_and(|text| text.iter().enumerate().all(fits))
}

/// Where the longest card number ends that begins here.
fn card_at(text: &[u8], start: usize) -> Option<usize> {
    if !(b'2'..=b'6').contains(&text[start]) {
        return None;
    }
    let mut digits = [0; LONGEST_CARD];
    let (mut count, mut at, mut end) = (0, start, None);
    while count < LONGEST_CARD {
        match text.get(at) {
            Some(digit) if digit.is_ascii_digit() => {
                digits[count] = digit - b'0';
                count += 1;
                at += 1;
                let ends = !text.get(at).is_some_and(u8::is_ascii_digit);
                if ends && count >= SHORTEST_CARD && has_check_digit(&digits[..count]) {
                    end = Some(at);
                }
            }
            Some(b' ' | b'-') if text.get(at + 1).is_some_and(u8::is_ascii_digit) => at += 1,
            _ => break,
        }
    }
    end
}

/// Luhn's: every second digit from the end is doubled, and all add up to tens.
fn has_check_digit(digits: &[u8]) -> bool {
    let weigh = |(i, digit): (usize, &u8)| match u32::from(*digit) * if i % 2 == 1 { 2 } else { 1 } {
        two @ 10.. => two - 9,
        one => one,
    };
    digits.iter().rev().enumerate().map(weigh).sum::<u32>() % 10 == 0
}

fn emails(text: &[u8], place: &mut impl FnMut(Range<usize>)) {
    let (mut at, mut from) = (0, 0);
    while let Some(sign) = scan::find(text, at, text.len(), b'@') {
        at = sign + 1;
        let start = local_part(text, from, sign);
        if start < sign
            && let Some(end) = domain(text, sign + 1)
        {
            place(start..end);
            (at, from) = (end, end);
        }
    }
}

/// Where the part of an address before its `@` begins, at `from` at the earliest.
fn local_part(text: &[u8], from: usize, sign: usize) -> usize {
    let mut at = sign;
    while at > from {
        let before = at - 1;
        match text[before] {
            b'%' => match after_escape(text, before).filter(|end| *end <= sign) {
                Some(end) if !is_local_escape(&text[at..end]) => return end,
                _ => at = before,
            },
            b'\\' => match after_escape(text, before).filter(|end| *end <= sign) {
                // Of two backslashes the second begins no escape.
                _ if text[from..before].iter().rev().take_while(|b| **b == b'\\').count() % 2 == 1 => break,
                Some(end) if text[at] == b'u' && is_letter_escape(&text[at + 1..end]) => at = before,
                Some(end) => return end,
                None => break,
            },
            byte if is_local(byte) => at = before,
            0x80..0xc0 => match letter(&text[from..at]) {
                Some(bytes) => at -= bytes,
                None => break,
            },
            _ => break,
        }
    }
    // Else these are quotes around it.
    at + text[at..sign].iter().take_while(|b| **b == b'\'').count()
}

fn is_local(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'%' | b'+' | b'-' | b'\'')
}

/// Whether two hexadecimal digits are a byte of an address: `%2B`, or one of a letter that is not ASCII.
fn is_local_escape(digits: &[u8]) -> bool {
    hex(digits).is_some_and(|code| code >= 0x80 || is_local(code as u8))
}

/// Whether four hexadecimal digits are a letter as [`letter`] knows them.
fn is_letter_escape(digits: &[u8]) -> bool {
    hex(digits).is_some_and(|code| matches!(code, 0xc0..=0x7ff | 0x1e00..=0x1eff))
}

fn hex(digits: &[u8]) -> Option<u32> {
    u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// Bytes of the letter at the end of the text, of a script that is written with spaces: U+00C0 to U+07FF (Latin, Greek,
/// Cyrillic, Hebrew, Arabic), and U+1E00 to U+1EFF (Vietnamese). In others the words before would be taken for a name.
fn letter(text: &[u8]) -> Option<usize> {
    match text {
        [.., 0xc3..0xe0, 0x80..0xc0] => Some(2),
        [.., 0xe1, 0xb8..0xbc, 0x80..0xc0] => Some(3),
        _ => None,
    }
}

/// Where the domain ends that begins here, of two labels or more.
fn domain(text: &[u8], start: usize) -> Option<usize> {
    let (mut at, mut labels, mut end) = (start, 0, start);
    loop {
        let run = text[at..].iter().take_while(|b| b.is_ascii_alphanumeric() || **b == b'-').count();
        let dashes = text[at..at + run].iter().rev().take_while(|b| **b == b'-').count();
        if run == dashes || text[at] == b'-' {
            break;
        }
        labels += 1;
        end = at + run - dashes;
        if text.get(end) != Some(&b'.') {
            break;
        }
        at = end + 1;
    }
    (labels >= 2).then_some(end)
}

fn ipv4(text: &[u8], place: &mut impl FnMut(Range<usize>)) {
    let (mut at, mut from) = (0, 0);
    while let Some(point) = scan::find(text, at, text.len(), b'.') {
        at = point + 1;
        if let Some(end) = ipv4_end(text, point)
            && let Some(start) = ipv4_start(text, from, point)
            && parse_address(&text[start..end]).is_some()
        {
            place(start..end);
            (at, from) = (end, end);
        }
    }
}

/// Digits of an address's parts, at most.
const MOST_DIGITS: usize = 3;

/// Where the address ends whose first point this is, if three parts follow and then no letter or digit.
fn ipv4_end(text: &[u8], point: usize) -> Option<usize> {
    let mut at = point;
    for _ in 0..3 {
        let digits = text[at..].strip_prefix(b".")?;
        let count = digits.iter().take(MOST_DIGITS).take_while(|b| b.is_ascii_digit()).count();
        at += 1 + (count > 0).then_some(count)?;
    }
    (!text.get(at).is_some_and(is_word)).then_some(at)
}

/// Where the address begins whose first point this is, if there is no letter or digit before.
fn ipv4_start(text: &[u8], from: usize, point: usize) -> Option<usize> {
    let count = text[from..point].iter().rev().take(MOST_DIGITS).take_while(|b| b.is_ascii_digit()).count();
    let start = point - (count > 0).then_some(count)?;
    if !text[..start].last().is_some_and(is_word) {
        return Some(start);
    }
    // Else what is before must be an escape, which may have the first of these digits, too.
    let escape = (1..=LONGEST_ESCAPE + count).find_map(|back| after_escape(text, point.checked_sub(back)?));
    escape.filter(|end| (start..point).contains(end))
}

fn is_word(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || *byte == b'_'
}

const LONGEST_IPV6: usize = 45;

fn ipv6(text: &[u8], place: &mut impl FnMut(Range<usize>)) {
    let belongs = |byte: u8| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.');
    let mut at = 0;
    while let Some(colon) = scan::find(text, at, text.len(), b':') {
        let run = text[at..colon].iter().rev().take(LONGEST_IPV6).take_while(|b| belongs(**b)).count();
        let start = colon - run;
        let rest = text[colon..].iter().take_while(|b| belongs(**b)).count();
        at = colon + rest;
        let cut = text[start..at].iter().rev().take_while(|b| **b == b'.').count();
        let end = at - cut;
        let is_short = !text[colon + 1..at].contains(&b':');
        if is_short || text.get(end).is_some_and(|b| b.is_ascii_alphanumeric()) {
            continue;
        }
        // An escape takes letters and digits from the run's beginning, or ends where it begins.
        let around = |back: usize| after_escape(text, start.checked_sub(back)?).filter(|end| *end >= start);
        let escape = around(1).or_else(|| around(2));
        let is_inside = start > 0
            && (text[start - 1].is_ascii_alphanumeric() || belongs(text[start - 1]))
            // Of JSON. What follows a `%` may be no escape.
            || escape.is_some() && text[start - 1] != b'%';
        let plain = Some(start).filter(|_| !is_inside);
        let is_address = |start: &usize| text.get(*start..end).is_some_and(is_ipv6);
        if let Some(start) = plain.into_iter().chain(escape).find(is_address) {
            place(start..end);
        }
    }
}

/// Of letters alone only if it has three colons: `add::bed` is a name of a program.
fn is_ipv6(text: &[u8]) -> bool {
    text.len() <= LONGEST_IPV6
        && (text.iter().any(u8::is_ascii_digit) || text.iter().filter(|b| **b == b':').count() >= 3)
        && parse_address(text).is_some()
}
