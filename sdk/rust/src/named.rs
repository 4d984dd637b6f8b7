//! Settings by names that the user chooses.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};

use crate::Kind;

/// An object with any keys, such as `{ old: new }`. Of a key that comes twice the last value counts.
///
/// A small list in the order of its names: a map of the standard library would be a twentieth of a small plugin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named<T>(Vec<(String, T)>);

/// The usual setting `types` of a parser: kinds of fields, by their names.
pub type Kinds = Named<Kind>;

impl<T> Default for Named<T> {
    fn default() -> Self {
        Named(Vec::new())
    }
}

impl<T> Named<T> {
    /// What has that name.
    pub fn get(&self, name: &str) -> Option<&T> {
        self.0.iter().find(|(own, _)| own == name).map(|(_, value)| value)
    }

    /// Gives something a name, in the place of what had it.
    pub fn insert(&mut self, name: String, value: T) {
        let place = self.0.iter().position(|(own, _)| *own >= name).unwrap_or(self.0.len());
        match self.0.get_mut(place) {
            Some(known) if known.0 == name => known.1 = value,
            _ => self.0.insert(place, (name, value)),
        }
    }

    /// Names with what has them, in the order of the names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &T)> + Clone {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// The names, in their order.
    pub fn names(&self) -> impl Iterator<Item = &str> + Clone {
        self.iter().map(|(name, _)| name)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Named<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Names<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Names<T> {
            type Value = Named<T>;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("names with what they stand for")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Named<T>, A::Error> {
                let mut named = Named::default();
                while let Some(name) = map.next_key::<String>()? {
                    named.insert(name, map.next_value()?);
                }
                Ok(named)
            }
        }

        deserializer.deserialize_map(Names(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_found_by_name_and_the_last_counts() {
        let kinds: Kinds =
            crate::settings::read(r#"{"b": "json", "a": "integer", "c": "text", "a": "float"}"#).unwrap();
        assert_eq!((kinds.get("a"), kinds.get("b"), kinds.get("d")), (Some(&Kind::Float), Some(&Kind::Json), None));
        assert_eq!(kinds.names().collect::<Vec<_>>(), ["a", "b", "c"]);
        let error = crate::settings::read::<Kinds>(r#"{"a": "int"}"#).unwrap_err();
        assert_eq!(
            error,
            "unknown variant `int`, expected one of `text`, `integer`, `float`, `boolean`, `json` in `a`"
        );
    }
}
