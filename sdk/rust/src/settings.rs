//! Reading settings: from JSON to a plugin's own type.
//!
//! serde_json could do it in one step. But its errors can show any number, and what writes numbers with a fraction is a
//! third of a small plugin. And settings are written as YAML, so that a line and a column of their JSON help nobody: here,
//! what is wrong is said with its place, such as `time.format`.
//!
//! Types that derive `Settings` are read by [`Settings::read`], key after key, by functions that they share. What serde
//! makes anew for each of them would be a tenth of a small plugin: it reads what has a `Deserialize` of its own.

mod json;

use std::collections::BTreeMap;
use std::fmt::{self, Display};

use serde::Deserialize;
use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error, Expected, IntoDeserializer, MapAccess, SeqAccess, Unexpected,
    VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;

use json::Json;

use crate::schema::Schema;
use crate::{Kind, Named, Settings};

/// Reads settings. The error says what is wrong, and where.
pub fn read<T: Settings>(json: &str) -> Result<T, String> {
    T::read(Reader(json::parse(json)?)).map_err(|e| e.to_string())
}

/// The same of a type that has no schema.
#[cfg(test)]
fn read_by_serde<T: serde::de::DeserializeOwned>(json: &str) -> Result<T, String> {
    T::deserialize(Reader(json::parse(json)?)).map_err(|e| e.to_string())
}

/// A value of any kind in settings, as a cell has it: numbers as they were written, lists and objects as JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Constant {
    /// What it is.
    pub kind: Kind,
    /// The bytes of the cell.
    pub text: String,
}

/// The name of the type for which [`Reader`] gives the value's JSON: serde has no other way to ask for it.
const CONSTANT: &str = "weir_plugin::settings::Constant";

impl<'de> Deserialize<'de> for Constant {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl Visitor<'_> for Text {
            type Value = Constant;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }

            fn visit_str<E: Error>(self, json: &str) -> Result<Constant, E> {
                json::parse(json).map(Constant::new).map_err(E::custom)
            }
        }

        deserializer.deserialize_newtype_struct(CONSTANT, Text)
    }
}

impl Settings for Constant {
    const SCHEMA: Schema = Schema::Any;

    fn read(value: Reader) -> Result<Self, Refusal> {
        Ok(Constant::new(value.0))
    }
}

impl Constant {
    fn new(value: Json) -> Self {
        let kind = match value {
            Json::Text(text) => return Constant { kind: Kind::Text, text },
            Json::Unsigned(_) | Json::Signed(_) => Kind::Integer,
            Json::Float(..) => Kind::Float,
            Json::Boolean(_) => Kind::Boolean,
            Json::Null | Json::List(_) | Json::Object(_) => Kind::Json,
        };
        let mut text = String::new();
        value.write(&mut text);
        Constant { kind, text }
    }
}

/// What is wrong with settings.
#[derive(Debug)]
pub struct Refusal {
    what: String,
    /// Keys and indices around it, the innermost first.
    path: Vec<String>,
}

impl Refusal {
    #[cold]
    #[inline(never)]
    fn at(self, key: &str) -> Self {
        self.inside(key.to_owned())
    }

    #[cold]
    #[inline(never)]
    fn inside(mut self, key: String) -> Self {
        self.path.push(key);
        self
    }
}

impl Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        for (i, key) in self.path.iter().rev().enumerate() {
            f.write_str(if i == 0 { " in `" } else { "." })?;
            f.write_str(key)?;
        }
        f.write_str(if self.path.is_empty() { "" } else { "`" })
    }
}

impl std::error::Error for Refusal {}

impl Error for Refusal {
    #[cold]
    #[inline(never)]
    fn custom<T: Display>(what: T) -> Self {
        Refusal { what: what.to_string(), path: Vec::new() }
    }

    #[cold]
    #[inline(never)]
    fn invalid_type(found: Unexpected, expected: &dyn Expected) -> Self {
        Refusal::custom(format_args!("invalid type: {}, expected {expected}", shown(found)))
    }

    #[cold]
    #[inline(never)]
    fn invalid_value(found: Unexpected, expected: &dyn Expected) -> Self {
        Refusal::custom(format_args!("invalid value: {}, expected {expected}", shown(found)))
    }

    #[cold]
    #[inline(never)]
    fn missing_field(field: &'static str) -> Self {
        Refusal::custom(format_args!("missing field `{field}`"))
    }

    #[cold]
    #[inline(never)]
    fn duplicate_field(field: &'static str) -> Self {
        Refusal::custom(format_args!("duplicate field `{field}`"))
    }
}

/// As serde shows it, but without the digits of a number with a fraction.
fn shown(found: Unexpected) -> String {
    match found {
        Unexpected::Bool(value) => format!("boolean `{value}`"),
        Unexpected::Unsigned(value) => format!("integer `{value}`"),
        Unexpected::Signed(value) => format!("integer `{value}`"),
        Unexpected::Char(value) => format!("character `{value}`"),
        Unexpected::Str(value) => format!("string `{value}`"),
        Unexpected::Unit | Unexpected::Option => "null".to_owned(),
        Unexpected::Seq => "a list".to_owned(),
        Unexpected::Map => "an object".to_owned(),
        Unexpected::Float(_) => "a number with a fraction".to_owned(),
        _ => "something else".to_owned(),
    }
}

/// A value of settings, to be read as what it should be.
pub struct Reader(Json);

/// What a derived [`Settings::read`] is made of. All of it runs once, so that it is small rather than fast.
impl Reader {
    /// An object whose type has that name and these keys; if it is closed, no others.
    #[inline(never)]
    pub fn object(self, name: &str, keys: &'static [&'static str], closed: bool) -> Result<Members, Refusal> {
        let Json::Object(mut members) = self.0 else { return Err(self.refuse(&format!("struct {name}").as_str())) };
        for (i, (key, _)) in members.iter().enumerate() {
            match keys.iter().find(|known| *known == key) {
                Some(known) if members[..i].iter().any(|(other, _)| other == key) => {
                    return Err(Refusal::duplicate_field(known));
                }
                None if closed => return Err(Refusal::unknown_field(key, keys)),
                _ => {}
            }
        }
        members.retain(|(key, _)| keys.iter().any(|known| known == key));
        Ok(Members(members))
    }

    /// Which of these words it is, of a type that has that name.
    #[inline(never)]
    pub fn choice(self, name: &str, words: &'static [&'static str]) -> Result<usize, Refusal> {
        let is_alone = |pairs: &[(String, Json)]| matches!(pairs, [(_, Json::Null)]);
        let word = match &self.0 {
            Json::Text(word) => word,
            // As serde would have it.
            Json::Object(pairs) if is_alone(pairs) => &pairs[0].0,
            Json::Object(pairs) if pairs.len() == 1 => {
                return Err(Refusal::custom("this choice has no settings of its own"));
            }
            _ => return Err(self.refuse(&format!("enum {name}").as_str())),
        };
        words.iter().position(|known| known == word).ok_or_else(|| Refusal::unknown_variant(word, words))
    }

    /// The elements of a list, each with its index.
    #[inline(never)]
    fn list(self) -> Result<std::vec::IntoIter<Json>, Refusal> {
        match self.0 {
            Json::List(values) => Ok(values.into_iter()),
            _ => Err(self.refuse(&"a sequence")),
        }
    }

    /// The members of an object, whatever their keys.
    #[inline(never)]
    fn pairs(self, expected: &'static str) -> Result<std::vec::IntoIter<(String, Json)>, Refusal> {
        match self.0 {
            Json::Object(pairs) => Ok(pairs.into_iter()),
            _ => Err(self.refuse(&expected)),
        }
    }

    /// A whole number, and whether it is below zero.
    #[inline(never)]
    fn whole(self, name: &'static str, least: i64, most: u64) -> Result<u64, Refusal> {
        let (bits, fits, found) = match self.0 {
            Json::Unsigned(value) => (value, value <= most, Unexpected::Unsigned(value)),
            Json::Signed(value) => (value as u64, least <= value, Unexpected::Signed(value)),
            _ => return Err(self.refuse(&name)),
        };
        if fits { Ok(bits) } else { Err(Refusal::invalid_value(found, &name)) }
    }
    /// What is said of a value that is none of those that are expected.
    #[cold]
    #[inline(never)]
    fn refuse(self, expected: &dyn Expected) -> Refusal {
        let found = match &self.0 {
            Json::Null => Unexpected::Unit,
            Json::Boolean(value) => Unexpected::Bool(*value),
            Json::Unsigned(value) => Unexpected::Unsigned(*value),
            Json::Signed(value) => Unexpected::Signed(*value),
            Json::Float(value, _) => Unexpected::Float(*value),
            Json::Text(value) => Unexpected::Str(value),
            Json::List(_) => Unexpected::Seq,
            Json::Object(_) => Unexpected::Map,
        };
        Refusal::invalid_type(found, expected)
    }
}

/// The members of an object whose keys are known.
pub struct Members(Vec<(String, Json)>);

impl Members {
    /// What has that key; none if nothing has.
    pub fn get<T: Settings>(&mut self, key: &'static str) -> Result<Option<T>, Refusal> {
        let Some(value) = self.take(key) else { return Ok(None) };
        match T::read(value) {
            Ok(value) => Ok(Some(value)),
            Err(refusal) => Err(refusal.at(key)),
        }
    }

    #[inline(never)]
    fn take(&mut self, key: &str) -> Option<Reader> {
        let place = self.0.iter().position(|(own, _)| own == key)?;
        Some(Reader(self.0.swap_remove(place).1))
    }

    /// What has that key, which must be there, unless nothing is of that type too.
    pub fn require<T: Settings>(&mut self, key: &'static str) -> Result<T, Refusal> {
        match self.get(key)? {
            Some(value) => Ok(value),
            None if T::SCHEMA.is_optional() => T::read(Reader(Json::Null)),
            None => Err(Refusal::missing_field(key)),
        }
    }
}

/// Whole numbers.
macro_rules! whole {
    ($($type:ty, $unsigned:literal);*) => {
        $(impl Settings for $type {
            const SCHEMA: Schema = Schema::Integer { unsigned: $unsigned };

            fn read(value: Reader) -> Result<Self, Refusal> {
                value.whole(stringify!($type), <$type>::MIN as i64, <$type>::MAX as u64).map(|bits| bits as $type)
            }
        })*
    };
}

whole! { u8, true; u16, true; u32, true; u64, true; usize, true; i32, false; i64, false }

impl Settings for bool {
    const SCHEMA: Schema = Schema::Boolean;

    fn read(value: Reader) -> Result<Self, Refusal> {
        if let Json::Boolean(value) = value.0 { Ok(value) } else { Err(value.refuse(&"a boolean")) }
    }
}

impl Settings for f64 {
    const SCHEMA: Schema = Schema::Number;

    fn read(value: Reader) -> Result<Self, Refusal> {
        match value.0 {
            Json::Unsigned(value) => Ok(value as f64),
            Json::Signed(value) => Ok(value as f64),
            Json::Float(value, _) => Ok(value),
            _ => Err(value.refuse(&"f64")),
        }
    }
}

impl Settings for char {
    const SCHEMA: Schema = Schema::String;

    fn read(value: Reader) -> Result<Self, Refusal> {
        let Json::Text(text) = &value.0 else { return Err(value.refuse(&"a character")) };
        let mut characters = text.chars();
        match (characters.next(), characters.next()) {
            (Some(character), None) => Ok(character),
            _ => Err(Refusal::invalid_value(Unexpected::Str(text), &"a character")),
        }
    }
}

impl Settings for String {
    const SCHEMA: Schema = Schema::String;

    fn read(value: Reader) -> Result<Self, Refusal> {
        if let Json::Text(text) = value.0 { Ok(text) } else { Err(value.refuse(&"a string")) }
    }
}

impl<T: Settings> Settings for Option<T> {
    const SCHEMA: Schema = Schema::Optional(&T::SCHEMA);

    fn read(value: Reader) -> Result<Self, Refusal> {
        if value.0 == Json::Null { Ok(None) } else { T::read(value).map(Some) }
    }
}

impl<T: Settings> Settings for Vec<T> {
    const SCHEMA: Schema = Schema::Array(&T::SCHEMA);

    fn read(value: Reader) -> Result<Self, Refusal> {
        let mut list = Vec::new();
        for value in value.list()? {
            list.push(T::read(Reader(value)).map_err(|refusal| refusal.inside(list.len().to_string()))?);
        }
        Ok(list)
    }
}

impl<T: Settings> Settings for BTreeMap<String, T> {
    const SCHEMA: Schema = Schema::Map(&T::SCHEMA);

    fn read(value: Reader) -> Result<Self, Refusal> {
        let mut map = BTreeMap::new();
        for (key, value) in value.pairs("a map")? {
            let value = T::read(Reader(value)).map_err(|refusal| refusal.at(&key))?;
            map.insert(key, value);
        }
        Ok(map)
    }
}

impl<T: Settings> Settings for Named<T> {
    const SCHEMA: Schema = Schema::Map(&T::SCHEMA);

    fn read(value: Reader) -> Result<Self, Refusal> {
        let mut named = Named::default();
        for (key, value) in value.pairs("names with what they stand for")? {
            let value = T::read(Reader(value)).map_err(|refusal| refusal.at(&key))?;
            named.insert(key, value);
        }
        Ok(named)
    }
}

/// Methods that take what they can, and refuse the rest in one place: the smaller each is, the smaller are plugins.
macro_rules! take {
    ($($method:ident { $($pattern:pat => $visit:ident($($value:expr)?)),* })*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
            match self.0 {
                $($pattern => visitor.$visit($($value)?),)*
                other => Err(Reader(other).refuse(&visitor)),
            }
        })*
    };
}

/// The same method for types that are taken alike.
macro_rules! alike {
    ($($method:ident = $other:ident),*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
            self.$other(visitor)
        })*
    };
}

impl<'de> Deserializer<'de> for Reader {
    type Error = Refusal;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        match self.0 {
            Json::Null => visitor.visit_unit(),
            Json::Boolean(value) => visitor.visit_bool(value),
            Json::Unsigned(value) => visitor.visit_u64(value),
            Json::Signed(value) => visitor.visit_i64(value),
            Json::Float(value, _) => visitor.visit_f64(value),
            Json::Text(value) => visitor.visit_string(value),
            Json::List(values) => visitor.visit_seq(Items(values.into_iter().enumerate())),
            Json::Object(pairs) => visitor.visit_map(Pairs { pairs: pairs.into_iter(), value: None }),
        }
    }

    take! {
        deserialize_bool { Json::Boolean(value) => visit_bool(value) }
        deserialize_u64 { Json::Unsigned(value) => visit_u64(value), Json::Signed(value) => visit_i64(value) }
        deserialize_f64 {
            Json::Unsigned(value) => visit_u64(value),
            Json::Signed(value) => visit_i64(value),
            Json::Float(value, _) => visit_f64(value)
        }
        deserialize_string { Json::Text(value) => visit_string(value) }
        deserialize_unit { Json::Null => visit_unit() }
        deserialize_seq { Json::List(values) => visit_seq(Items(values.into_iter().enumerate())) }
        deserialize_map { Json::Object(pairs) => visit_map(Pairs { pairs: pairs.into_iter(), value: None }) }
    }

    alike! {
        deserialize_u8 = deserialize_u64,
        deserialize_u16 = deserialize_u64,
        deserialize_u32 = deserialize_u64,
        deserialize_i8 = deserialize_u64,
        deserialize_i16 = deserialize_u64,
        deserialize_i32 = deserialize_u64,
        deserialize_i64 = deserialize_u64,
        deserialize_f32 = deserialize_f64,
        deserialize_char = deserialize_string,
        deserialize_str = deserialize_string,
        deserialize_identifier = deserialize_string
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refusal> {
        self.deserialize_map(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        if self.0 == Json::Null { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, Refusal> {
        if name != CONSTANT {
            return visitor.visit_newtype_struct(self);
        }
        let mut json = String::new();
        self.0.write(&mut json);
        visitor.visit_string(json)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refusal> {
        match self.0 {
            Json::Text(name) => visitor.visit_enum(Variant { name, value: Json::Null }),
            Json::Object(mut pairs) if pairs.len() == 1 => {
                let (name, value) = pairs.remove(0);
                visitor.visit_enum(Variant { name, value })
            }
            other => Err(Reader(other).refuse(&visitor)),
        }
    }

    forward_to_deserialize_any! { bytes byte_buf unit_struct tuple tuple_struct ignored_any }
}

struct Items(std::iter::Enumerate<std::vec::IntoIter<Json>>);

impl<'de> SeqAccess<'de> for Items {
    type Error = Refusal;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Refusal> {
        let Some((i, value)) = self.0.next() else { return Ok(None) };
        seed.deserialize(Reader(value)).map(Some).map_err(|e| e.inside(i.to_string()))
    }
}

struct Pairs {
    pairs: std::vec::IntoIter<(String, Json)>,
    /// The value of the key that was read last, with the key.
    value: Option<(String, Json)>,
}

impl<'de> MapAccess<'de> for Pairs {
    type Error = Refusal;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Refusal> {
        let Some((key, value)) = self.pairs.next() else { return Ok(None) };
        let (key, _) = self.value.insert((key, value));
        let deserializer: StrDeserializer<Refusal> = key.as_str().into_deserializer();
        seed.deserialize(deserializer).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Refusal> {
        let (key, value) = self.value.take().unwrap_or((String::new(), Json::Null));
        seed.deserialize(Reader(value)).map_err(|e| e.inside(key))
    }
}

struct Variant {
    name: String,
    value: Json,
}

impl<'de> EnumAccess<'de> for Variant {
    type Error = Refusal;
    type Variant = Reader;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Reader), Refusal> {
        let deserializer: StrDeserializer<Refusal> = self.name.as_str().into_deserializer();
        Ok((seed.deserialize(deserializer)?, Reader(self.value)))
    }
}

impl<'de> VariantAccess<'de> for Reader {
    type Error = Refusal;

    fn unit_variant(self) -> Result<(), Refusal> {
        if self.0 == Json::Null { Ok(()) } else { Err(Refusal::custom("this choice has no settings of its own")) }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Refusal> {
        seed.deserialize(self)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Refusal> {
        self.deserialize_any(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(self, _: &'static [&'static str], visitor: V) -> Result<V::Value, Refusal> {
        self.deserialize_any(visitor)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[derive(Debug, Default, Deserialize, PartialEq)]
    #[serde(default, deny_unknown_fields)]
    struct Config {
        name: String,
        quote: Option<char>,
        depth: u8,
        below: i64,
        ratio: f64,
        on: bool,
        kinds: BTreeMap<String, Kind>,
        list: Vec<Inner>,
        any: Value,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        field: String,
        how: How,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(rename_all = "snake_case")]
    enum How {
        Plain,
        Value(u8),
        Fields { a: u8 },
    }

    #[test]
    fn what_serde_json_reads_is_read_the_same() {
        for json in [
            "{}",
            r#"{"name": "é\n", "quote": "x", "depth": 255, "below": -1, "ratio": 1.5, "on": true}"#,
            r#"{"quote": null, "ratio": 2, "any": {"a": [1, -2, 0.5, null, "x"]}}"#,
            r#"{"kinds": {"a": "integer", "b": "json"}}"#,
            r#"{"list": [{"field": "a", "how": "plain"}, {"field": "b", "how": {"value": 7}}]}"#,
            r#"{"list": [{"field": "b", "how": {"fields": {"a": 1}}}]}"#,
        ] {
            assert_eq!(read_by_serde::<Config>(json).unwrap(), serde_json::from_str(json).unwrap(), "{json}");
        }
    }

    #[test]
    fn constants_are_what_cells_have() {
        let parts = |constant: Constant| (constant.kind, constant.text);
        for (json, kind, text) in [
            (r#""a\"\u00e9""#, Kind::Text, "a\"é"),
            ("-7", Kind::Integer, "-7"),
            ("1.50", Kind::Float, "1.50"),
            ("18446744073709551616", Kind::Float, "18446744073709551616"),
            ("true", Kind::Boolean, "true"),
            ("null", Kind::Json, "null"),
            (r#"[1, "x", {"a": 0.1}]"#, Kind::Json, r#"[1,"x",{"a":0.1}]"#),
        ] {
            let expected = Ok((kind, text.to_owned()));
            assert_eq!(read::<Constant>(json).map(parts), expected, "{json}");
            assert_eq!(read_by_serde::<Constant>(json).map(parts), expected, "{json}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        for (json, expected) in [
            ("{", "not JSON: a key is missing, at byte 1"),
            ("[]", "invalid type: a list, expected struct Config"),
            ("1", "invalid type: integer `1`, expected struct Config"),
            (
                r#"{"nmae": "x"}"#,
                "unknown field `nmae`, expected one of `name`, `quote`, `depth`, `below`, `ratio`, `on`, `kinds`, `list`, `any`",
            ),
            (r#"{"name": 1.5}"#, "invalid type: a number with a fraction, expected a string in `name`"),
            (r#"{"depth": 256}"#, "invalid value: integer `256`, expected u8 in `depth`"),
            (r#"{"depth": "1"}"#, "invalid type: string `1`, expected u8 in `depth`"),
            (r#"{"on": null}"#, "invalid type: null, expected a boolean in `on`"),
            (r#"{"quote": "ab"}"#, "invalid value: string `ab`, expected a character in `quote`"),
            (
                r#"{"kinds": {"a": "int"}}"#,
                "unknown variant `int`, expected one of `text`, `integer`, `float`, `boolean`, `json` in `kinds.a`",
            ),
            (r#"{"list": [{"how": "plain"}]}"#, "missing field `field` in `list.0`"),
            (
                r#"{"list": [{"field": "a", "how": {"plain": 1}}]}"#,
                "this choice has no settings of its own in `list.0.how`",
            ),
        ] {
            assert_eq!(read_by_serde::<Config>(json).unwrap_err(), expected, "{json}");
        }
    }

    /// Settings that have all that can be derived.
    #[derive(Debug, Deserialize, PartialEq, Settings)]
    #[serde(deny_unknown_fields)]
    struct Derived {
        name: String,
        #[serde(default)]
        quote: Option<char>,
        note: Option<String>,
        #[serde(default = "seven", rename = "deep")]
        depth: u8,
        #[serde(default)]
        below: i64,
        #[serde(default)]
        ratio: f64,
        #[serde(default)]
        kinds: Named<Kind>,
        #[serde(default)]
        map: BTreeMap<String, Word>,
        #[serde(default)]
        list: Vec<Whole>,
        #[serde(skip)]
        own: bool,
    }

    fn seven() -> u8 {
        7
    }

    #[derive(Clone, Copy, Debug, Deserialize, PartialEq, Settings)]
    #[serde(rename_all = "kebab-case")]
    enum Word {
        First,
        #[serde(rename = "2nd")]
        Second,
        TheThird,
    }

    #[derive(Debug, Deserialize, PartialEq, Settings)]
    #[serde(default)]
    struct Whole {
        on: bool,
        word: Word,
        zone: crate::moment::Zone,
    }

    impl Default for Whole {
        fn default() -> Self {
            Whole { on: true, word: Word::Second, zone: crate::moment::Zone::default() }
        }
    }

    #[test]
    fn what_is_derived_reads_as_serde_does() {
        for json in [
            r#"{"name": "a"}"#,
            r#"{"name": "a", "quote": null, "note": "b", "deep": 255, "below": -9223372036854775808, "ratio": -1.5}"#,
            r#"{"name": "a", "quote": "\u00e9", "ratio": 2, "kinds": {"b": "json", "a": "text"}, "below": 9223372036854775807}"#,
            r#"{"name": "a", "map": {"x": "2nd", "y": "the-third", "z": {"first": null}}}"#,
            r#"{"name": "a", "list": [{}, {"on": false, "word": "first", "zone": "+01:00", "more": [1]}]}"#,
            "[]",
            "null",
            "{}",
            r#"{"name": 1}"#,
            r#"{"name": "a", "nmae": 1}"#,
            r#"{"name": "a", "name": "b"}"#,
            r#"{"name": "a", "own": true}"#,
            r#"{"name": "a", "depth": 1}"#,
            r#"{"name": "a", "deep": 256}"#,
            r#"{"name": "a", "deep": -1}"#,
            r#"{"name": "a", "deep": 1.5}"#,
            r#"{"name": "a", "deep": null}"#,
            r#"{"name": "a", "below": 9223372036854775808}"#,
            r#"{"name": "a", "ratio": "1"}"#,
            r#"{"name": "a", "quote": "ab"}"#,
            r#"{"name": "a", "quote": ""}"#,
            r#"{"name": "a", "quote": 1}"#,
            r#"{"name": "a", "kinds": []}"#,
            r#"{"name": "a", "kinds": {"a": "int"}}"#,
            r#"{"name": "a", "map": 1}"#,
            r#"{"name": "a", "map": {"x": "third"}}"#,
            r#"{"name": "a", "map": {"x": 3}}"#,
            r#"{"name": "a", "map": {"x": {"first": 1}}}"#,
            r#"{"name": "a", "list": {}}"#,
            r#"{"name": "a", "list": [{}, {"on": 1}]}"#,
            r#"{"name": "a", "list": [{}, {"zone": "CET"}]}"#,
            r#"{"name": "a", "list": [1]}"#,
        ] {
            assert_eq!(read::<Derived>(json), read_by_serde::<Derived>(json), "{json}");
        }
    }
}
