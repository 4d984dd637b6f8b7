//! What all kinds of log are made of: random choices, numbers, times, addresses.

use std::net::Ipv6Addr;

use jiff::Timestamp;

/// Random numbers, the same for the same seed: splitmix64.
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Self {
        Rng(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 up to, not including, `end`.
    pub fn below(&mut self, end: u32) -> u32 {
        (((self.next() >> 32) * u64::from(end)) >> 32) as u32
    }

    /// Yes in so many of a thousand cases.
    pub fn in_thousand(&mut self, cases: u32) -> bool {
        self.below(1000) < cases
    }

    /// One of them, each as likely as the others. Panics if there is none.
    pub fn pick<'a>(&mut self, choices: &'a [impl AsRef<str>]) -> &'a str {
        choices[self.below(choices.len() as u32) as usize].as_ref()
    }

    /// Small numbers are as likely as large ones: uniform in the number of bits, of which there are fewer than `bits`.
    pub fn sized(&mut self, bits: u32) -> u32 {
        let least = 1 << self.below(bits);
        least + self.below(least)
    }
}

/// So many strings, each made by `make`.
pub fn pool(size: usize, rng: &mut Rng, make: impl Fn(&mut Rng) -> String) -> Vec<String> {
    (0..size).map(|_| make(rng)).collect()
}

/// Replaces every `#` by a random digit.
pub fn fill(template: &str, rng: &mut Rng) -> String {
    template.chars().map(|c| if c == '#' { char::from(b'1' + rng.below(9) as u8) } else { c }).collect()
}

/// An address of the documentation networks' kind: nine IPv4 for each IPv6.
pub fn address(rng: &mut Rng) -> String {
    if rng.in_thousand(100) {
        let [a, b] = [rng.below(0x1_0000) as u16, rng.below(0x1_0000) as u16];
        return Ipv6Addr::new(0x2001, 0xdb8, a, 0, 0, 0, rng.below(16) as u16, b).to_string();
    }
    let [a, b, c] = [rng.below(222), rng.below(256), rng.below(256)];
    format!("{}.{b}.{c}.{}", a + 1, rng.below(254) + 1)
}

/// Appends text.
pub fn put(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
}

/// Appends a decimal number, with leading zeros up to `width` digits.
pub fn number(out: &mut Vec<u8>, value: u64, width: usize) {
    let mut digits = [b'0'; 20];
    let mut at = digits.len();
    let mut rest = value;
    while rest > 0 {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    out.extend_from_slice(&digits[at.min(digits.len() - width)..]);
}

/// Appends `seq=` and ten digits.
pub fn sequence(out: &mut Vec<u8>, seq: u64) {
    put(out, "seq=");
    number(out, seq, 10);
}

/// Appends 16 hexadecimal digits.
pub fn hex(out: &mut Vec<u8>, value: u64) {
    for shift in (0..16).rev() {
        out.push(b"0123456789abcdef"[(value >> (shift * 4)) as usize & 15]);
    }
}

/// Writes times in UTC and keeps the text of the last second: most events have the second of the one before.
pub struct Stamp {
    pattern: &'static str,
    second: i64,
    text: String,
}

impl Stamp {
    /// A pattern as of strftime, for whole seconds.
    pub fn new(pattern: &'static str) -> Self {
        Stamp { pattern, second: i64::MIN, text: String::new() }
    }

    /// The second's text; `millis` are since the Unix epoch.
    pub fn text(&mut self, millis: i64) -> &str {
        let second = millis.div_euclid(1000);
        if second != self.second {
            let time = Timestamp::from_second(second).unwrap_or(Timestamp::UNIX_EPOCH);
            (self.second, self.text) = (second, time.strftime(self.pattern).to_string());
        }
        &self.text
    }
}

/// Appends the second's part: `.` and three digits.
pub fn fraction(out: &mut Vec<u8>, millis: i64) {
    out.push(b'.');
    number(out, millis.rem_euclid(1000) as u64, 3);
}
