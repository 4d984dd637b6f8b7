//! Conditions: what was typed, and what it means.

use std::fmt;

use serde::de::{Deserializer, Visitor};
use weir_plugin::network::{Network, parse_address};
use weir_plugin::prelude::*;
use weir_plugin::schema::Schema;
use weir_plugin_regex::{Search, escape};

/// One condition: tests of a field, all of which must pass, or one of `and`, `or` and `not`.
#[derive(Default, Deserialize, Settings)]
#[serde(default, deny_unknown_fields)]
pub struct Condition {
    /// The field that is tested; content if not given.
    field: Option<String>,
    /// Whether the event has the field.
    exists: Option<bool>,
    /// The field is this.
    equals: Option<Text>,
    /// The field is one of these.
    #[serde(rename = "in")]
    one_of: Option<Vec<Text>>,
    /// The field contains this.
    contains: Option<String>,
    /// The field starts with this.
    starts_with: Option<String>,
    /// The field ends with this.
    ends_with: Option<String>,
    /// A regular expression that is searched for in the field.
    regex: Option<String>,
    /// The field is a number between bounds.
    range: Option<Range>,
    /// The field is an IP address in one of these networks, such as 10.0.0.0/8.
    cidr: Option<Vec<String>>,
    /// Whether letters of ASCII count as the same in capitals: for equals, in, contains, starts_with, ends_with, regex.
    ignore_case: bool,
    /// All of these conditions hold.
    and: Option<Nested>,
    /// One of these conditions holds.
    or: Option<Nested>,
    /// This condition does not hold.
    not: Option<Negated>,
}

/// Bounds of a number.
#[derive(Clone, Copy, Default, Deserialize, PartialEq, Settings)]
#[serde(default, deny_unknown_fields)]
pub struct Range {
    /// It is this or more.
    min: Option<f64>,
    /// It is this or less.
    max: Option<f64>,
    /// It is more than this.
    above: Option<f64>,
    /// It is less than this.
    below: Option<f64>,
}

/// Conditions inside of a condition: as those around them.
#[derive(Deserialize)]
pub struct Nested(Vec<Condition>);

impl Settings for Nested {
    // A schema is written at compile time, so that it cannot contain itself.
    const SCHEMA: Schema = Schema::Array(&Schema::Any);
}

/// A condition inside of a condition: as the one around it.
#[derive(Deserialize)]
pub struct Negated(Box<Condition>);

impl Settings for Negated {
    const SCHEMA: Schema = Schema::Any;
}

/// A text; numbers and booleans are what they are written as.
pub struct Text(String);

impl Settings for Text {
    const SCHEMA: Schema = Schema::Any;
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl Visitor<'_> for Read {
            type Value = Text;
            fn expecting(&self, to: &mut fmt::Formatter) -> fmt::Result {
                to.write_str("a text, a number or a boolean")
            }
            fn visit_str<E>(self, text: &str) -> Result<Text, E> {
                Ok(Text(text.to_owned()))
            }
            fn visit_i64<E>(self, number: i64) -> Result<Text, E> {
                Ok(Text(number.to_string()))
            }
            fn visit_u64<E>(self, number: u64) -> Result<Text, E> {
                Ok(Text(number.to_string()))
            }
            fn visit_f64<E>(self, number: f64) -> Result<Text, E> {
                Ok(Text(number.to_string()))
            }
            fn visit_bool<E>(self, truth: bool) -> Result<Text, E> {
                Ok(Text(truth.to_string()))
            }
        }
        deserializer.deserialize_any(Read)
    }
}

/// What a condition means.
pub enum Test {
    All(Vec<Test>),
    Any(Vec<Test>),
    Not(Box<Test>),
    /// All checks of the field with that name pass.
    Field(String, Vec<Check>),
}

/// What a field must be.
pub enum Check {
    Exists(bool),
    /// One of these.
    Is {
        texts: Vec<String>,
        ignore_case: bool,
    },
    StartsWith {
        text: String,
        ignore_case: bool,
    },
    EndsWith {
        text: String,
        ignore_case: bool,
    },
    Has(Box<Search>),
    Between(Range),
    InNetwork(Vec<Network>),
}

/// The tests of conditions. The error says which condition is wrong: `place` is the list's name.
pub fn compile(place: &str, conditions: Vec<Condition>) -> Result<Vec<Test>, String> {
    conditions.into_iter().enumerate().map(|(i, condition)| condition.compile(&format!("{place}[{i}]"))).collect()
}

impl Condition {
    fn compile(self, place: &str) -> Result<Test, String> {
        let Condition { field, and, or, not, .. } = &self;
        let logic = [and.is_some(), or.is_some(), not.is_some()].into_iter().filter(|given| *given).count();
        if logic == 0 {
            let name = field.clone().unwrap_or_else(|| "content".to_owned());
            let checks = self.checks().map_err(|e| format!("{place}.{e}"))?;
            if checks.is_empty() {
                return Err(format!(
                    "{place}: give a test of the field, such as equals or contains, or one of and, or, not"
                ));
            }
            return Ok(Test::Field(name, checks));
        }
        if logic > 1 || self.field.is_some() || !self.is_only_logic() {
            return Err(format!(
                "{place}: and, or, not stand alone: put what else there is beside each other in `and`"
            ));
        }
        let list = |Nested(list), name: &str| {
            let place = format!("{place}.{name}");
            if list.is_empty() { Err(format!("{place}: give at least one condition")) } else { compile(&place, list) }
        };
        match (self.and, self.or, self.not) {
            (Some(all), ..) => Ok(Test::All(list(all, "and")?)),
            (_, Some(any), _) => Ok(Test::Any(list(any, "or")?)),
            (.., Some(Negated(inner))) => Ok(Test::Not(Box::new(inner.compile(&format!("{place}.not"))?))),
            (None, None, None) => unreachable!("one of them is there"),
        }
    }

    fn is_only_logic(&self) -> bool {
        let texts = self.contains.is_none() && self.starts_with.is_none() && self.ends_with.is_none();
        let values = self.exists.is_none() && self.equals.is_none() && self.one_of.is_none();
        let others = self.regex.is_none() && self.range.is_none() && self.cidr.is_none() && !self.ignore_case;
        texts && values && others
    }

    fn checks(self) -> Result<Vec<Check>, String> {
        let ignore_case = self.ignore_case;
        let search = |name: &str, pattern: &str| {
            Search::new(pattern, ignore_case).map(|s| Check::Has(Box::new(s))).map_err(|e| format!("{name}: {e}"))
        };
        let mut checks = Vec::new();
        checks.extend(self.exists.map(Check::Exists));
        checks.extend(self.equals.map(|Text(text)| Check::Is { texts: vec![text], ignore_case }));
        checks
            .extend(self.one_of.map(|list| Check::Is { texts: list.into_iter().map(|t| t.0).collect(), ignore_case }));
        checks.extend(self.starts_with.map(|text| Check::StartsWith { text, ignore_case }));
        checks.extend(self.ends_with.map(|text| Check::EndsWith { text, ignore_case }));
        if let Some(range) = self.range {
            if range == Range::default() {
                return Err("range: give min, max, above or below".to_owned());
            }
            checks.push(Check::Between(range));
        }
        if let Some(list) = self.cidr {
            let networks = list.iter().map(|text| Network::parse(text)).collect::<Result<_, _>>();
            checks.push(Check::InNetwork(networks.map_err(|e| format!("cidr: {e}"))?));
        }
        if let Some(text) = self.contains {
            checks.push(search("contains", &escape(&text))?);
        }
        if let Some(pattern) = self.regex {
            checks.push(search("regex", &pattern)?);
        }
        Ok(checks)
    }
}

impl Test {
    /// Whether the condition holds for the event.
    pub fn holds(&mut self, event: &Event) -> bool {
        match self {
            Test::All(tests) => tests.iter_mut().all(|test| test.holds(event)),
            Test::Any(tests) => tests.iter_mut().any(|test| test.holds(event)),
            Test::Not(test) => !test.holds(event),
            Test::Field(name, checks) => {
                let value = event.get(name);
                checks.iter_mut().all(|check| check.passes(value))
            }
        }
    }
}

impl Check {
    fn passes(&mut self, value: Option<&[u8]>) -> bool {
        if let Check::Exists(expected) = self {
            return value.is_some() == *expected;
        }
        let Some(value) = value else { return false };
        match self {
            Check::Exists(_) => true,
            Check::Is { texts, ignore_case } => texts.iter().any(|text| same(value, text.as_bytes(), *ignore_case)),
            Check::StartsWith { text, ignore_case } => {
                value.get(..text.len()).is_some_and(|start| same(start, text.as_bytes(), *ignore_case))
            }
            Check::EndsWith { text, ignore_case } => {
                let start = value.len().checked_sub(text.len());
                start.is_some_and(|start| same(&value[start..], text.as_bytes(), *ignore_case))
            }
            Check::Has(search) => search.is_in(value),
            Check::Between(range) => number(value).is_some_and(|number| range.contains(number)),
            Check::InNetwork(networks) => {
                parse_address(value).is_some_and(|address| networks.iter().any(|n| n.contains(address)))
            }
        }
    }
}

impl Range {
    fn contains(&self, number: f64) -> bool {
        self.min.is_none_or(|min| number >= min)
            && self.max.is_none_or(|max| number <= max)
            && self.above.is_none_or(|above| number > above)
            && self.below.is_none_or(|below| number < below)
    }
}

fn same(a: &[u8], b: &[u8], ignore_case: bool) -> bool {
    if ignore_case { a.eq_ignore_ascii_case(b) } else { a == b }
}

/// The number that a text is: digits, perhaps with sign, fraction and exponent.
fn number(text: &[u8]) -> Option<f64> {
    // Rust reads `inf` and `nan`, too.
    let is_number = text.iter().all(|b| matches!(b, b'0'..=b'9' | b'.' | b'-' | b'+' | b'e' | b'E'));
    if is_number { std::str::from_utf8(text).ok()?.parse().ok() } else { None }
}
