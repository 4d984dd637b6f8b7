//! What is in a `.wasm`, without running any of it: for its author, and for whoever is given one.

use std::collections::BTreeMap;
use std::ops::Range;

use anyhow::{Context, Result};
use serde::Serialize;
use sha2::{Digest, Sha256};
use wasmparser::{BinaryReader, Parser, Payload, ProducersSectionReader};

use super::admission::{self, Outline};

/// What is in a component.
#[derive(Debug, Serialize)]
pub struct Anatomy {
    /// The name that its users know it by; its file's name where it says none.
    pub name: String,
    /// Its own version.
    pub version: String,
    /// One line.
    pub description: String,
    /// The version of the contract that it is made for; none if it is no plugin.
    pub api: Option<String>,
    /// SHA-256 of the bytes, in hex.
    pub sha256: String,
    /// Bytes.
    pub size: u64,
    /// Bytes of code in all of its modules.
    pub code: u64,
    /// Bytes of data in all of its modules.
    pub data: u64,
    /// Bytes of custom sections, by name: not needed to run it.
    pub custom: BTreeMap<String, u64>,
    /// Functions of all of its modules.
    pub functions: u64,
    /// Whether it has names for them, for stacks.
    pub has_names: bool,
    /// What it imports.
    pub imports: Vec<String>,
    /// What it exports.
    pub exports: Vec<String>,
    /// Who made it, as it says: `language Rust`, `processed-by rustc 1.95.0`.
    pub producers: Vec<String>,
    /// JSON Schema of its settings; null if it says nothing.
    pub settings: serde_json::Value,
    /// Why an agent would refuse it, if it would.
    pub refused: Option<String>,
}

impl Anatomy {
    /// Of the bytes of a `.wasm`; `name` is used if it doesn't say one. The error says why it is no component.
    pub fn read(bytes: &[u8], name: &str) -> Result<Anatomy> {
        let outline = Outline::read(bytes)?;
        let said = admission::metadata(&outline, name)?;
        let refused = admission::admit(bytes.to_vec(), name).err();
        let mut anatomy = Anatomy {
            name: said.name,
            version: said.version,
            description: said.description,
            api: outline.wants().map(str::to_owned),
            sha256: Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect(),
            size: bytes.len() as u64,
            code: 0,
            data: 0,
            custom: BTreeMap::new(),
            functions: 0,
            has_names: false,
            imports: outline.imports,
            exports: outline.exports,
            producers: Vec::new(),
            settings: said.settings,
            refused: refused.map(|failed| format!("{}: {failed}", failed.check)),
        };
        for payload in Parser::new(0).parse_all(bytes) {
            anatomy.add(&payload.context("it is damaged")?);
        }
        Ok(anatomy)
    }

    /// Counts a section, of whichever module.
    fn add(&mut self, payload: &Payload) {
        match payload {
            Payload::CodeSectionStart { count, size, .. } => {
                self.code += u64::from(*size);
                self.functions += u64::from(*count);
            }
            Payload::DataSection(section) => self.data += length(&section.range()),
            Payload::CustomSection(section) => {
                *self.custom.entry(section.name().to_owned()).or_default() += length(&section.range());
                match section.name() {
                    "name" => self.has_names = true,
                    "producers" => self.add_producers(section.data()),
                    _ => {}
                }
            }
            _ => {}
        }
    }

    /// What is not as it should be there is left out: it is only words.
    fn add_producers(&mut self, section: &[u8]) {
        let Ok(fields) = ProducersSectionReader::new(BinaryReader::new(section, 0)) else { return };
        for field in fields.into_iter().map_while(Result::ok) {
            for value in field.values.into_iter().map_while(Result::ok) {
                let producer = format!("{} {} {}", field.name, value.name, value.version).trim_end().to_owned();
                if !self.producers.contains(&producer) {
                    self.producers.push(producer);
                }
            }
        }
    }
}

fn length(range: &Range<u64>) -> u64 {
    range.end - range.start
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_of_all_modules_are_counted() {
        let text = r#"(component
            (import "wasi:cli/environment@0.2.0" (instance))
            (core module $a (func $named) (memory 1) (data (i32.const 0) "12345") (@custom "extra" "abc")
                (@producers (language "Rust" "2024") (processed-by "rustc" "1.95.0")))
            (core module $b (func) (func) (@producers (language "Rust" "2024")))
            (instance $i)
            (export "weir:plugin/processor@0.1.0" (instance $i)))"#;
        let anatomy = Anatomy::read(&wat::parse_str(text).unwrap(), "own").unwrap();
        assert_eq!((&*anatomy.name, &*anatomy.version, anatomy.api.as_deref()), ("own", "unknown", Some("0.1.0")));
        assert_eq!((anatomy.functions, anatomy.has_names), (3, true));
        assert!(anatomy.data >= 5 && anatomy.code >= 6 && anatomy.custom["extra"] >= 3, "{anatomy:?}");
        assert_eq!(anatomy.producers, ["language Rust 2024", "processed-by rustc 1.95.0"]);
        assert_eq!(anatomy.imports, ["wasi:cli/environment@0.2.0"]);
        assert!(anatomy.refused.unwrap().starts_with("imports: it imports `wasi:cli/environment@0.2.0`"));
    }

    #[test]
    fn what_is_no_component_has_no_anatomy() {
        let said = |bytes: &[u8]| format!("{:#}", Anatomy::read(bytes, "x").unwrap_err());
        assert!(said(b"").starts_with("it is not WebAssembly, or it is damaged"));
        assert!(said(b"\0asm\x01\0\0\0").starts_with("it is a core module, not a component"));
    }
}
