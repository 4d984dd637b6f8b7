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
    Ipv4(Box<Search>),
    Ipv6,
    Pattern(Box<Search>),
    Whole,
}

const EMAIL: &str =
    r"[A-Za-z0-9._%+-]+@[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)+";
const IPV4: &str = r"\b[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}\b";
const BEARER: &str = r"(?i)\b(?:bearer|basic)[ +:=]+([a-z0-9._~+/=-]{6,})";
const JWT: &str = r"\beyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*";
const AWS_ID: &str = r"\b(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}\b";
const AWS_SECRET: &str =
    r#"(?i)aws_?-?secret_?-?(?:access_?-?)?key["']{0,2}[ \t]{0,4}[=:][ \t]{0,4}["']?([A-Za-z0-9/+=]{40})"#;

impl Secret {
    pub fn finders(self) -> Vec<Finder> {
        let known = |pattern: &str| Finder::pattern(pattern).expect("known patterns are right");
        match self {
            Secret::Card => vec![Finder::Card],
            Secret::Email => vec![known(EMAIL)],
            Secret::Ip => {
                vec![Finder::Ipv4(Box::new(Search::new(IPV4, false).expect("known patterns are right"))), Finder::Ipv6]
            }
            Secret::Bearer => vec![known(BEARER)],
            Secret::Jwt => vec![known(JWT)],
            Secret::AwsKey => vec![known(AWS_ID), known(AWS_SECRET)],
            Secret::Whole => vec![Finder::Whole],
        }
    }
}

impl Finder {
    pub fn pattern(pattern: &str) -> Result<Self, String> {
        Ok(Finder::Pattern(Box::new(Search::new(pattern, false)?)))
    }

    /// Tells of each place, in order.
    pub fn find(&mut self, text: &[u8], place: &mut impl FnMut(Range<usize>)) {
        match self {
            Finder::Card => cards(text, place),
            Finder::Ipv4(search) => {
                let mut at = 0;
                while let Some(found) = search.find(text, at) {
                    let is_address = parse_address(&text[found.clone()]).is_some();
                    at = if is_address { found.end } else { found.start + 1 };
                    if is_address {
                        place(found);
                    }
                }
            }
            Finder::Ipv6 => ipv6(text, place),
            Finder::Pattern(search) => {
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
            Finder::Whole if text.is_empty() => {}
            Finder::Whole => place(0..text.len()),
        }
    }
}

const SHORTEST_CARD: usize = 13;
const LONGEST_CARD: usize = 19;

fn cards(text: &[u8], place: &mut impl FnMut(Range<usize>)) {
    let mut at = 0;
    while let Some(start) = scan::find_in(text, at, text.len(), &[(b'0', b'9')]) {
        let begins = start == 0 || !text[start - 1].is_ascii_alphanumeric();
        at = match card_at(text, start).filter(|_| begins) {
            Some(end) => {
                place(start..end);
                end
            }
            // No card begins inside of a run of digits.
            None => start + scan::digits(text, start, text.len()),
        };
    }
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
                let ends = !text.get(at).is_some_and(u8::is_ascii_alphanumeric);
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
        let inside = start > 0 && (text[start - 1].is_ascii_alphanumeric() || belongs(text[start - 1]))
            || text.get(end).is_some_and(|b| b.is_ascii_alphanumeric());
        let candidate = &text[start..end.max(start)];
        let has_digit = candidate.iter().any(u8::is_ascii_digit);
        if !inside && has_digit && candidate.len() <= LONGEST_IPV6 && parse_address(candidate).is_some() {
            place(start..end);
        }
    }
}
