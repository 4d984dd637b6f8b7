//! What is looked at before a `.wasm` is compiled: its size, that it is a component, and what it imports.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use wasmparser::{Encoding, Parser, Payload};

use super::guest::harmless;
use super::limits::{COMPONENT_BYTES, METADATA_BYTES, PLUGIN_NAME};

/// The version of the contract that this host serves.
pub const API_VERSION: &str = "0.1";

/// The interfaces that every plugin may import.
const GRANTED: [&str; 3] = ["weir:plugin/event@0.1.0", "weir:plugin/log@0.1.0", "weir:plugin/count@0.1.0"];

/// Imports that are named in a refusal, and bytes of each name: they are the author's, who may have had a bad day.
const NAMED: usize = 8;
const NAME: usize = 128;

/// The interface that makes a component a plugin.
const PROCESSOR: &str = "weir:plugin/processor";

/// What a plugin says of itself, in the custom section `weir:plugin`.
#[derive(Clone, Debug, Deserialize)]
pub struct Metadata {
    /// The version of the contract that it was built for.
    pub api: String,
    /// The name that its users know it by.
    pub name: String,
    /// Its own version.
    pub version: String,
    /// One line.
    #[serde(default)]
    pub description: String,
    /// JSON Schema of its settings.
    #[serde(default)]
    pub settings: serde_json::Value,
}

impl Metadata {
    fn read(json: &[u8]) -> Result<Self> {
        ensure!(json.len() <= METADATA_BYTES, "it has {} bytes, and {METADATA_BYTES} are allowed", json.len());
        let read: serde_json::Result<Metadata> = serde_json::from_slice(json);
        let metadata = read.map_err(|error| anyhow::Error::msg(harmless(&error.to_string(), NAME)))?;
        for (what, text) in [("name", &metadata.name), ("version", &metadata.version)] {
            let is_sound =
                !text.is_empty() && text.len() <= PLUGIN_NAME && !text.contains(|c: char| c.is_control() || c == '/');
            ensure!(
                is_sound,
                "the {what} \"{}\" is empty, longer than {PLUGIN_NAME} bytes, or has control characters or slashes",
                harmless(text, NAME)
            );
        }
        Ok(metadata)
    }
}

/// A `.wasm` that is small enough, of a known version, and imports nothing but what is granted.
pub struct Admitted {
    /// The file's bytes.
    pub bytes: Vec<u8>,
    /// SHA-256 of the bytes, in hex.
    pub digest: String,
    /// From its custom section; from the file's name where it has none.
    pub metadata: Metadata,
}

/// Reads a file and checks it.
pub fn admit_file(path: &Path) -> Result<Admitted> {
    let describe = || format!("plugin {}", path.display());
    let size = std::fs::metadata(path).with_context(describe)?.len();
    ensure!(
        size <= COMPONENT_BYTES,
        "plugin {}: it has {size} bytes, and the most allowed is {COMPONENT_BYTES}",
        path.display()
    );
    let bytes = std::fs::read(path).with_context(describe)?;
    let name = path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
    admit(bytes, &name).with_context(describe)
}

/// Checks the bytes of a `.wasm`; `name` is used if it doesn't say one.
pub fn admit(bytes: Vec<u8>, name: &str) -> Result<Admitted> {
    let outline = Outline::read(&bytes)?;
    let refused: Vec<_> = outline.imports.iter().filter(|i| !GRANTED.contains(&i.as_str())).collect();
    let wants = outline.exports.iter().find_map(|e| e.strip_prefix(PROCESSOR)?.strip_prefix('@'));
    match wants {
        Some(version) if !version.starts_with(&format!("{API_VERSION}.")) => {
            bail!(
                "it wants version {} of the plugin API, and this weir has {API_VERSION}: update weir, or build the plugin for {API_VERSION}",
                harmless(version, NAME)
            )
        }
        None => bail!("it is a component but not a plugin: it does not export `{PROCESSOR}@{API_VERSION}.0`"),
        Some(_) => {}
    }
    if !refused.is_empty() {
        let mut names: Vec<_> = refused.iter().take(NAMED).map(|i| format!("`{}`", harmless(i, NAME))).collect();
        if refused.len() > NAMED {
            names.push(format!("and {} more", refused.len() - NAMED));
        }
        let names = names.join(", ");
        bail!("it imports {names}, which a plugin may not: only `log` and `count` of weir:plugin are granted");
    }
    let digest = Sha256::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect();
    let metadata = match &outline.metadata {
        Some(json) => Metadata::read(json).context("its custom section `weir:plugin` is not as it should be")?,
        None => Metadata {
            api: API_VERSION.to_owned(),
            name: name.to_owned(),
            version: "unknown".to_owned(),
            description: String::new(),
            settings: serde_json::Value::Null,
        },
    };
    Ok(Admitted { bytes, digest, metadata })
}

/// The outermost names of a component.
#[derive(Default)]
struct Outline {
    imports: Vec<String>,
    exports: Vec<String>,
    metadata: Option<Vec<u8>>,
}

impl Outline {
    fn read(bytes: &[u8]) -> Result<Outline> {
        let mut outline = Outline::default();
        let mut depth = 0;
        for payload in Parser::new(0).parse_all(bytes) {
            match payload.context("it is not WebAssembly, or it is damaged")? {
                Payload::Version { encoding: Encoding::Module, .. } if depth == 0 => {
                    bail!("it is a core module, not a component: build it with `weir plugin build`")
                }
                Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
                Payload::End(_) => depth -= 1,
                Payload::ComponentImportSection(section) if depth == 0 => {
                    for import in section {
                        outline.imports.push(import?.name.name.to_owned());
                    }
                }
                Payload::ComponentExportSection(section) if depth == 0 => {
                    for export in section {
                        outline.exports.push(export?.name.name.to_owned());
                    }
                }
                Payload::CustomSection(section) if section.name() == "weir:plugin" => {
                    outline.metadata.get_or_insert_with(|| section.data().to_vec());
                }
                _ => {}
            }
        }
        Ok(outline)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(bytes: &[u8]) -> String {
        format!("{:#}", admit(bytes.to_vec(), "x").err().expect("it is refused"))
    }

    #[test]
    fn what_is_no_plugin_is_refused_in_words() {
        assert!(refusal(b"hello").starts_with("it is not WebAssembly, or it is damaged"));
        assert!(refusal(b"").starts_with("it is not WebAssembly, or it is damaged"));
        assert!(refusal(b"\0asm\x01\0\0\0").starts_with("it is a core module, not a component"));
        assert!(refusal(b"\0asm\x0d\0\x01\0").starts_with("it is a component but not a plugin"));
    }
}
