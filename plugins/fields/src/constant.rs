//! A value in settings, as a cell has it.

use std::fmt::{self, Write};

use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use weir_plugin::prelude::*;
use weir_plugin::schema::Schema;

/// A value, as a cell has it: text, a number, a boolean, or any JSON.
pub struct Constant {
    pub kind: Kind,
    pub text: String,
}

impl Settings for Constant {
    const SCHEMA: Schema = Schema::Any;
}

impl Constant {
    fn new(kind: Kind, text: impl ToString) -> Self {
        Constant { kind, text: text.to_string() }
    }

    /// The value inside of an array or an object.
    fn write(&self, json: &mut String) {
        if self.kind == Kind::Text { quote(&self.text, json) } else { json.push_str(&self.text) }
    }
}

fn quote(text: &str, json: &mut String) {
    json.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => json.extend(['\\', c]),
            // Writing to a string does not fail.
            '\0'..='\x1f' => drop(write!(json, "\\u{:04x}", c as u32)),
            c => json.push(c),
        }
    }
    json.push('"');
}

impl<'de> Deserialize<'de> for Constant {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Read)
    }
}

struct Read;

impl<'de> Visitor<'de> for Read {
    type Value = Constant;

    fn expecting(&self, to: &mut fmt::Formatter) -> fmt::Result {
        to.write_str("a value")
    }

    fn visit_str<E>(self, text: &str) -> Result<Constant, E> {
        Ok(Constant::new(Kind::Text, text))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Constant, E> {
        Ok(Constant::new(Kind::Integer, number))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Constant, E> {
        Ok(Constant::new(Kind::Integer, number))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Constant, E> {
        Ok(Constant::new(Kind::Float, number))
    }

    fn visit_bool<E>(self, truth: bool) -> Result<Constant, E> {
        Ok(Constant::new(Kind::Boolean, truth))
    }

    fn visit_unit<E>(self) -> Result<Constant, E> {
        Ok(Constant::new(Kind::Json, "null"))
    }

    fn visit_none<E>(self) -> Result<Constant, E> {
        Ok(Constant::new(Kind::Json, "null"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Constant, A::Error> {
        let mut json = "[".to_owned();
        while let Some(element) = list.next_element::<Constant>()? {
            if json.len() > 1 {
                json.push(',');
            }
            element.write(&mut json);
        }
        json.push(']');
        Ok(Constant::new(Kind::Json, json))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Constant, A::Error> {
        let mut json = "{".to_owned();
        while let Some((name, value)) = members.next_entry::<String, Constant>()? {
            if json.len() > 1 {
                json.push(',');
            }
            quote(&name, &mut json);
            json.push(':');
            value.write(&mut json);
        }
        json.push('}');
        Ok(Constant::new(Kind::Json, json))
    }
}
