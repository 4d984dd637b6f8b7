//! JSON as settings need it: small rather than fast.

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub enum Json {
    Null,
    Boolean(bool),
    Unsigned(u64),
    Signed(i64),
    /// With the text that it was written as.
    Float(f64, String),
    Text(String),
    List(Vec<Json>),
    /// Keys in the order in which they stand, also those that come twice.
    Object(Vec<(String, Json)>),
}

/// Deepest nesting.
const MOST_DEEP: usize = 64;

/// Reads a text that is one value. The error says what is wrong, and at which byte.
pub fn parse(text: &str) -> Result<Json, String> {
    let mut parser = Parser { text, at: 0 };
    let value = parser.value(0).and_then(|value| {
        parser.skip_blank();
        if parser.at == text.len() { Ok(value) } else { Err("bytes behind the value") }
    });
    value.map_err(|what| format!("not JSON: {what}, at byte {}", parser.at))
}

impl Json {
    /// Writes the value as JSON; numbers as they were written.
    pub fn write(&self, json: &mut String) {
        let items = |json: &mut String, i: usize| json.push_str(if i == 0 { "" } else { "," });
        match self {
            Json::Null => json.push_str("null"),
            Json::Boolean(value) => json.push_str(if *value { "true" } else { "false" }),
            Json::Unsigned(value) => json.push_str(&value.to_string()),
            Json::Signed(value) => json.push_str(&value.to_string()),
            Json::Float(_, text) => json.push_str(text),
            Json::Text(text) => quote(text, json),
            Json::List(values) => {
                json.push('[');
                for (i, value) in values.iter().enumerate() {
                    items(json, i);
                    value.write(json);
                }
                json.push(']');
            }
            Json::Object(pairs) => {
                json.push('{');
                for (i, (key, value)) in pairs.iter().enumerate() {
                    items(json, i);
                    quote(key, json);
                    json.push(':');
                    value.write(json);
                }
                json.push('}');
            }
        }
    }
}

fn quote(text: &str, json: &mut String) {
    json.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => json.extend(['\\', c]),
            '\0'..='\x1f' => {
                let digit = |value: u32| char::from_digit(value, 16).unwrap_or('0');
                json.push_str("\\u00");
                json.extend([digit(c as u32 >> 4), digit(c as u32 & 15)]);
            }
            c => json.push(c),
        }
    }
    json.push('"');
}

struct Parser<'t> {
    text: &'t str,
    at: usize,
}

type Parsed<T> = Result<T, &'static str>;

impl Parser<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip_blank(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    /// Goes on behind the byte, and white space before it.
    fn expect(&mut self, byte: u8, what: &'static str) -> Parsed<()> {
        self.skip_blank();
        if self.peek() != Some(byte) {
            return Err(what);
        }
        self.at += 1;
        Ok(())
    }

    fn value(&mut self, depth: usize) -> Parsed<Json> {
        if depth == MOST_DEEP {
            return Err("nested too deep");
        }
        self.skip_blank();
        match self.peek() {
            Some(b'{') => {
                let mut pairs = Vec::new();
                self.items(b'}', |parser| {
                    parser.expect(b'"', "a key is missing")?;
                    let key = parser.string()?;
                    parser.expect(b':', "a colon is missing")?;
                    pairs.push((key, parser.value(depth + 1)?));
                    Ok(())
                })?;
                Ok(Json::Object(pairs))
            }
            Some(b'[') => {
                let mut values = Vec::new();
                self.items(b']', |parser| {
                    values.push(parser.value(depth + 1)?);
                    Ok(())
                })?;
                Ok(Json::List(values))
            }
            Some(b'"') => {
                self.at += 1;
                self.string().map(Json::Text)
            }
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => self.word(),
        }
    }

    /// Reads items with commas between up to the closing byte, behind the opening one.
    fn items(&mut self, close: u8, mut item: impl FnMut(&mut Self) -> Parsed<()>) -> Parsed<()> {
        self.at += 1;
        self.skip_blank();
        if self.peek() == Some(close) {
            self.at += 1;
            return Ok(());
        }
        loop {
            item(self)?;
            self.skip_blank();
            if self.peek() == Some(close) {
                self.at += 1;
                return Ok(());
            }
            self.expect(b',', "a comma is missing")?;
        }
    }

    fn word(&mut self) -> Parsed<Json> {
        for (word, value) in [("null", Json::Null), ("true", Json::Boolean(true)), ("false", Json::Boolean(false))] {
            if self.text.as_bytes()[self.at..].starts_with(word.as_bytes()) {
                self.at += word.len();
                return Ok(value);
            }
        }
        Err("a value is missing")
    }

    /// A string whose opening quote was read.
    fn string(&mut self) -> Parsed<String> {
        let mut bytes = Vec::new();
        loop {
            let byte = self.peek().ok_or("a quote is not closed")?;
            self.at += 1;
            match byte {
                b'"' => return String::from_utf8(bytes).map_err(|_| "not UTF-8"),
                b'\\' => {
                    let escape = self.escape()?;
                    bytes.extend_from_slice(escape.encode_utf8(&mut [0; 4]).as_bytes());
                }
                0..0x20 => return Err("a control character in a string"),
                byte => bytes.push(byte),
            }
        }
    }

    fn escape(&mut self) -> Parsed<char> {
        let byte = self.peek().ok_or("a quote is not closed")?;
        self.at += 1;
        Ok(match byte {
            b'"' | b'\\' | b'/' => char::from(byte),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let mut code = self.hex()?;
                if (0xd800..0xdc00).contains(&code) && self.text.as_bytes()[self.at..].starts_with(b"\\u") {
                    self.at += 2;
                    let second = self.hex()?;
                    code = 0x10000 + ((code - 0xd800) << 10) + (second.wrapping_sub(0xdc00) & 0x3ff);
                }
                char::from_u32(code).ok_or("half of a surrogate pair")?
            }
            _ => return Err("not an escape"),
        })
    }

    fn hex(&mut self) -> Parsed<u32> {
        let mut code = 0;
        for _ in 0..4 {
            let digit = self.peek().and_then(|digit| char::from(digit).to_digit(16)).ok_or("not an escape")?;
            code = code << 4 | digit;
            self.at += 1;
        }
        Ok(code)
    }

    fn number(&mut self) -> Parsed<Json> {
        let negative = self.peek() == Some(b'-');
        self.at += usize::from(negative);
        let start = self.at;
        let (mut value, mut exponent, mut exact) = (0, 0, true);
        self.digits(&mut value, &mut exponent, &mut exact)?;
        if self.text.as_bytes()[start] == b'0' && self.at > start + 1 {
            return Err("a number with a zero in front");
        }
        let mut whole = exact;
        if self.peek() == Some(b'.') {
            self.at += 1;
            let from = self.at;
            let mut dropped = 0;
            self.digits(&mut value, &mut dropped, &mut exact)?;
            exponent += dropped - (self.at - from) as i32;
            whole = false;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            let below = self.peek() == Some(b'-');
            self.at += usize::from(matches!(self.peek(), Some(b'-' | b'+')));
            let (mut power, mut dropped) = (0, 0);
            self.digits(&mut power, &mut dropped, &mut true)?;
            let power = power.min(9999) as i32;
            exponent += if below { -power } else { power };
            whole = false;
        }
        Ok(match (whole, negative) {
            (true, false) => Json::Unsigned(value),
            (true, true) if value <= i64::MAX as u64 => Json::Signed(-(value as i64)),
            _ => {
                let number = scaled(value, exponent);
                // It is never outside of the text; slices of text that could be bring a table of Unicode with them.
                let text = self.text.get(start - usize::from(negative)..self.at).unwrap_or_default().to_owned();
                Json::Float(if negative { -number } else { number }, text)
            }
        })
    }

    /// Appends digits, of which there must be one; those that 64 bits have no room for are counted instead.
    fn digits(&mut self, value: &mut u64, dropped: &mut i32, exact: &mut bool) -> Parsed<()> {
        let start = self.at;
        while let Some(digit @ b'0'..=b'9') = self.peek() {
            match value.checked_mul(10).and_then(|value| value.checked_add(u64::from(digit - b'0'))) {
                Some(more) if *exact => *value = more,
                _ => (*exact, *dropped) = (false, dropped.saturating_add(1)),
            }
            self.at += 1;
        }
        if self.at == start { Err("a digit is missing") } else { Ok(()) }
    }
}

/// A number times a power of ten: exact for what people write, which has 15 digits at most.
fn scaled(value: u64, exponent: i32) -> f64 {
    let (mut scaled, mut left) = (value as f64, exponent.unsigned_abs().min(700));
    while left > 0 && scaled != 0.0 {
        // Powers up to the 22nd are exact.
        let step = left.min(22);
        let power = (0..step).fold(1.0, |power, _| power * 10.0);
        scaled = if exponent < 0 { scaled / power } else { scaled * power };
        left -= step;
    }
    scaled
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(json: &Json) -> serde_json::Value {
        match json {
            Json::Null => serde_json::Value::Null,
            Json::Boolean(value) => (*value).into(),
            Json::Unsigned(value) => (*value).into(),
            Json::Signed(value) => (*value).into(),
            Json::Float(value, _) => (*value).into(),
            Json::Text(value) => value.as_str().into(),
            Json::List(values) => values.iter().map(plain).collect(),
            Json::Object(pairs) => pairs.iter().map(|(key, value)| (key.clone(), plain(value))).collect(),
        }
    }

    #[test]
    fn it_is_what_serde_json_reads() {
        for text in [
            "null",
            " true ",
            "false",
            "0",
            "-0",
            "12",
            "-9223372036854775808",
            "18446744073709551615",
            "0.1",
            "-1.50",
            "1e3",
            "2.5E-3",
            "123456789.123456",
            "1e22",
            "0.05",
            "[]",
            "[ ]",
            "{}",
            "{ }",
            "[1, [2, {\"a\" : null}]]",
            r#"{"a":"é\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00","b":{"c":[true]},"":""}"#,
            "18446744073709551616",
            "1e-400",
        ] {
            let expected: serde_json::Value = serde_json::from_str(text).unwrap();
            match parse(text) {
                Ok(Json::Float(value, written)) => {
                    assert_eq!((Some(value), written.as_str()), (expected.as_f64(), text));
                }
                Ok(Json::Unsigned(0) | Json::Signed(0)) => assert_eq!(expected.as_f64(), Some(0.0)),
                parsed => assert_eq!(plain(&parsed.unwrap()), expected, "{text}"),
            }
        }
    }

    #[test]
    fn what_is_written_is_the_same_again() {
        let text = r#"{"a":"\"\\\u000a\u001fü","b":[1.50,-2,3e5,null,true,{}],"c":[[],false]}"#;
        let mut written = String::new();
        parse(text).unwrap().write(&mut written);
        assert_eq!(written, text);
    }

    #[test]
    fn what_serde_json_refuses_is_refused() {
        for text in [
            "",
            " ",
            "nul",
            "tru",
            "+1",
            "01",
            "-",
            "1.",
            ".5",
            "1e",
            "1e+",
            "[1",
            "[1,]",
            "[1 2]",
            "{",
            "{a:1}",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{\"a\":1 \"b\":2}",
            "\"",
            "\"\\",
            "\"\\x\"",
            "\"\\u12\"",
            "\"\\ud800\"",
            "\"\n\"",
            "1 2",
            "{}x",
        ] {
            assert!(serde_json::from_str::<serde_json::Value>(text).is_err(), "{text}");
            assert!(parse(text).is_err(), "{text}");
        }
        assert_eq!(parse("{\"a\": nul}"), Err("not JSON: a value is missing, at byte 6".to_owned()));
        assert_eq!(parse(&"[".repeat(1000)), Err("not JSON: nested too deep, at byte 64".to_owned()));
    }

    #[test]
    fn every_beginning_of_a_text_is_refused() {
        let text = r#"{"a":"é\"\ud83d\ude00","b":{"c":[true,-1.5e+3]}}"#;
        for end in (0..text.len()).filter(|end| text.is_char_boundary(*end)) {
            assert!(parse(&text[..end]).is_err(), "{}", &text[..end]);
        }
    }
}
