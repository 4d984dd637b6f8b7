//! The JSON Schema of settings, written at compile time so that it can lie in a custom section of the plugin.

/// What a setting accepts. Made by `#[derive(Settings)]`; read by `export!`.
pub enum Schema {
    /// Anything.
    Any,
    /// `true` or `false`.
    Boolean,
    /// A whole number; `unsigned` ones are not below zero.
    Integer {
        /// Whether negative numbers are refused.
        unsigned: bool,
    },
    /// A number.
    Number,
    /// Text.
    String,
    /// What the inner schema accepts, or `null`, or nothing.
    Optional(&'static Schema),
    /// A list.
    Array(&'static Schema),
    /// An object with any keys.
    Map(&'static Schema),
    /// One of these words, each with its description.
    Choice(&'static [(&'static str, &'static str)]),
    /// An object with these keys.
    Object {
        /// Its keys.
        properties: &'static [Property],
        /// Whether other keys are refused.
        closed: bool,
    },
}

/// One key of an object.
pub struct Property {
    /// The key.
    pub name: &'static str,
    /// The doc comment of the field.
    pub doc: &'static str,
    /// Whether the settings are refused without it.
    pub required: bool,
    /// What it accepts.
    pub schema: &'static Schema,
}

impl Schema {
    /// Whether a field of this type may be left out.
    pub const fn is_optional(&self) -> bool {
        matches!(self, Schema::Optional(_))
    }

    const fn write<const N: usize>(&self, out: &mut Writer<N>, doc: &str) {
        out.raw("{");
        if !doc.is_empty() {
            out.raw("\"description\":");
            out.text(doc);
            out.raw(",");
        }
        self.write_type(out);
        out.raw("}");
    }

    const fn write_type<const N: usize>(&self, out: &mut Writer<N>) {
        match self {
            Schema::Any => out.raw("\"$comment\":\"anything\""),
            Schema::Boolean => out.raw("\"type\":\"boolean\""),
            Schema::Integer { unsigned: true } => out.raw("\"type\":\"integer\",\"minimum\":0"),
            Schema::Integer { unsigned: false } => out.raw("\"type\":\"integer\""),
            Schema::Number => out.raw("\"type\":\"number\""),
            Schema::String => out.raw("\"type\":\"string\""),
            Schema::Optional(inner) => {
                out.raw("\"anyOf\":[");
                inner.write(out, "");
                out.raw(",{\"type\":\"null\"}]");
            }
            Schema::Array(item) => {
                out.raw("\"type\":\"array\",\"items\":");
                item.write(out, "");
            }
            Schema::Map(value) => {
                out.raw("\"type\":\"object\",\"additionalProperties\":");
                value.write(out, "");
            }
            Schema::Choice(words) => {
                out.raw("\"oneOf\":[");
                let mut i = 0;
                while i < words.len() {
                    out.comma(i);
                    out.raw("{\"const\":");
                    out.text(words[i].0);
                    if !words[i].1.is_empty() {
                        out.raw(",\"description\":");
                        out.text(words[i].1);
                    }
                    out.raw("}");
                    i += 1;
                }
                out.raw("]");
            }
            Schema::Object { properties, closed } => write_object(out, properties, *closed),
        }
    }
}

const fn write_object<const N: usize>(out: &mut Writer<N>, properties: &[Property], closed: bool) {
    out.raw("\"type\":\"object\",\"properties\":{");
    let mut i = 0;
    while i < properties.len() {
        out.comma(i);
        out.text(properties[i].name);
        out.raw(":");
        properties[i].schema.write(out, properties[i].doc);
        i += 1;
    }
    out.raw("},\"required\":[");
    let (mut i, mut written) = (0, 0);
    while i < properties.len() {
        if properties[i].required {
            out.comma(written);
            out.text(properties[i].name);
            written += 1;
        }
        i += 1;
    }
    out.raw("]");
    if closed {
        out.raw(",\"additionalProperties\":false");
    }
}

/// What a plugin says of itself, as JSON in the custom section `weir:plugin`.
pub struct Metadata {
    /// The name of its crate.
    pub name: &'static str,
    /// The version of its crate.
    pub version: &'static str,
    /// The description of its crate.
    pub description: &'static str,
    /// What it accepts as settings.
    pub settings: &'static Schema,
}

impl Metadata {
    /// Bytes of the JSON text.
    pub const fn json_len(&self) -> usize {
        let mut out = Writer::<0> { bytes: [], len: 0 };
        self.write(&mut out);
        out.len
    }

    /// The JSON text; `N` is its length, see [`Metadata::json_len`].
    pub const fn to_json<const N: usize>(&self) -> [u8; N] {
        let mut out = Writer { bytes: [0; N], len: 0 };
        self.write(&mut out);
        assert!(out.len == N);
        out.bytes
    }

    const fn write<const N: usize>(&self, out: &mut Writer<N>) {
        out.raw("{\"api\":");
        out.text(crate::API_VERSION);
        out.raw(",\"name\":");
        out.text(self.name);
        out.raw(",\"version\":");
        out.text(self.version);
        out.raw(",\"description\":");
        out.text(self.description);
        out.raw(",\"settings\":");
        self.settings.write(out, "");
        out.raw("}");
    }
}

/// Counts what does not fit into its `N` bytes, so that a writer of none measures.
struct Writer<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

impl<const N: usize> Writer<N> {
    const fn byte(&mut self, byte: u8) {
        if self.len < N {
            self.bytes[self.len] = byte;
        }
        self.len += 1;
    }

    const fn raw(&mut self, text: &str) {
        let bytes = text.as_bytes();
        let mut i = 0;
        while i < bytes.len() {
            self.byte(bytes[i]);
            i += 1;
        }
    }

    const fn comma(&mut self, written: usize) {
        if written > 0 {
            self.byte(b',');
        }
    }

    const fn text(&mut self, text: &str) {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let bytes = text.as_bytes();
        self.byte(b'"');
        let mut i = 0;
        while i < bytes.len() {
            match bytes[i] {
                b'"' | b'\\' => {
                    self.byte(b'\\');
                    self.byte(bytes[i]);
                }
                control @ 0..0x20 => {
                    self.raw("\\u00");
                    self.byte(HEX[(control >> 4) as usize]);
                    self.byte(HEX[(control & 15) as usize]);
                }
                byte => self.byte(byte),
            }
            i += 1;
        }
        self.byte(b'"');
    }
}

impl crate::Settings for serde_json::Value {
    const SCHEMA: Schema = Schema::Any;
}

#[cfg(test)]
mod tests {
    use crate::Settings;
    use crate::schema::Metadata;

    /// How it goes.
    #[derive(serde::Deserialize, Settings)]
    #[serde(rename_all = "snake_case")]
    #[allow(dead_code)]
    enum Way {
        /// The "first" way.
        TooFew,
        Other,
    }

    #[derive(serde::Deserialize, Settings)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Example {
        /// A name.
        name: String,
        #[serde(default)]
        ways: Vec<Way>,
        limit: Option<u32>,
    }

    #[test]
    fn the_schema_is_json_with_docs_and_required_fields() {
        const META: Metadata =
            Metadata { name: "example", version: "1.2.3", description: "a \"thing\"", settings: &Example::SCHEMA };
        let json: serde_json::Value = serde_json::from_slice(&META.to_json::<{ META.json_len() }>()).unwrap();
        assert_eq!(
            json,
            serde_json::json!({
                "api": "0.1", "name": "example", "version": "1.2.3", "description": "a \"thing\"",
                "settings": {
                    "type": "object",
                    "properties": {
                        "name": { "description": "A name.", "type": "string" },
                        "ways": { "type": "array", "items": { "oneOf": [
                            { "const": "too_few", "description": "The \"first\" way." },
                            { "const": "other" },
                        ]}},
                        "limit": { "anyOf": [{ "type": "integer", "minimum": 0 }, { "type": "null" }] },
                    },
                    "required": ["name"],
                    "additionalProperties": false,
                },
            })
        );
    }
}
