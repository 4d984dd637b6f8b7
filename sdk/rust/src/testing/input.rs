//! Events as JSON: what a plugin gets that is not the first of its chain.

use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::Kind;
use crate::time::parse_rfc3339;

/// An event to give to a plugin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TestInput {
    /// Name, kind and bytes of each cell.
    pub cells: Vec<(String, Kind, Vec<u8>)>,
    /// Nanoseconds since the Unix epoch.
    pub time: Option<i64>,
}

impl TestInput {
    /// Reads an event from a JSON object: strings are text, arrays and objects are JSON, and what is `null` is left
    /// out. `__time__`, RFC 3339, is the event's time. Bytes of values other than strings stay as they are written.
    pub fn parse(line: &str) -> Result<Self, String> {
        let Members(members) = serde_json::from_str(line).map_err(|e| format!("{e}: {line}"))?;
        let mut event = TestInput::default();
        for (name, value) in members {
            let value = value.get();
            let text = || serde_json::from_str::<String>(value).map_err(|e| format!("{name}: {e}"));
            if name == "__time__" {
                let time = parse_rfc3339(text()?.as_bytes());
                event.time = Some(time.ok_or_else(|| format!("__time__: {value} is not RFC 3339"))?);
                continue;
            }
            if name.starts_with("__") {
                return Err(format!("{name}: of the names that begin with `__` an event has only __time__"));
            }
            let (kind, bytes) = match value.as_bytes()[0] {
                b'n' => continue,
                b'"' => (Kind::Text, text()?),
                b't' | b'f' => (Kind::Boolean, value.to_owned()),
                b'[' | b'{' => (Kind::Json, value.to_owned()),
                _ if value.contains(['.', 'e', 'E']) => (Kind::Float, value.to_owned()),
                _ => (Kind::Integer, value.to_owned()),
            };
            event.cells.push((name, kind, bytes.into_bytes()));
        }
        Ok(event)
    }

    /// A raw line.
    pub(super) fn line(line: &[u8]) -> Self {
        TestInput { cells: vec![(crate::event::CONTENT.to_owned(), Kind::Text, line.to_owned())], time: None }
    }
}

/// The members of an object, in their order, also those that come twice.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = Members<'de>;

            fn expecting(&self, to: &mut fmt::Formatter) -> fmt::Result {
                to.write_str("an event, which is a JSON object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_have_the_kinds_that_json_gives_them() {
        let line = r#"{"s":"a\n","i":-1,"f":1.50,"e":1E3,"b":true,"n":null,"l":[1, 2],"o":{"b":1,"a":2},"i":2,"__time__":"1970-01-01T00:00:01Z"}"#;
        let event = TestInput::parse(line).unwrap();
        let cells: Vec<_> =
            event.cells.iter().map(|(n, k, v)| (n.as_str(), *k, std::str::from_utf8(v).unwrap())).collect();
        let expected = [
            ("s", Kind::Text, "a\n"),
            ("i", Kind::Integer, "-1"),
            ("f", Kind::Float, "1.50"),
            ("e", Kind::Float, "1E3"),
            ("b", Kind::Boolean, "true"),
            ("l", Kind::Json, "[1, 2]"),
            ("o", Kind::Json, r#"{"b":1,"a":2}"#),
            ("i", Kind::Integer, "2"),
        ];
        assert_eq!((cells.as_slice(), event.time), (&expected[..], Some(1_000_000_000)));
    }

    #[test]
    fn what_is_no_event_is_refused() {
        for (line, error) in [
            ("[]", "expected an event, which is a JSON object"),
            ("{", "EOF while parsing"),
            (r#"{"__time__":"now"}"#, "__time__: \"now\" is not RFC 3339"),
            (r#"{"__tags__":{}}"#, "__tags__: of the names that begin with `__` an event has only __time__"),
        ] {
            let actual = TestInput::parse(line).unwrap_err();
            assert!(actual.contains(error), "{line}: {actual}");
        }
    }
}
