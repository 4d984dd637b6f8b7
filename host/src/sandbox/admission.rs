//! What is looked at before a `.wasm` is compiled: its size, that it is a component, what it imports, and what it takes
//! from the beginning.

use std::path::Path;

use anyhow::{Context, Result, anyhow, bail, ensure};
use bytes::Bytes;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use wasmparser::{
    ComponentAlias, ComponentExternalKind, ComponentOuterAliasKind, ComponentTypeRef, Encoding, Instance, Parser,
    Payload,
};

use super::check::{Check, During, Failed};
use super::guest::harmless;
use super::limits::{COMPONENT_BYTES, Limits, METADATA_BYTES, PLUGIN_NAME};

/// The version of the contract that this host serves.
pub const API_VERSION: &str = "0.1";

/// The interfaces that every plugin may import.
const GRANTED: [&str; 4] = ["weir:plugin/event@0.1.0", "weir:plugin/log@0.1.0", "weir:plugin/count@0.1.0", FILES];

/// The one that is of use only where files are granted.
const FILES: &str = "weir:plugin/files@0.1.0";

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
    pub bytes: Bytes,
    /// SHA-256 of the bytes, in hex.
    pub digest: String,
    /// From its custom section; from the file's name where it has none.
    pub metadata: Metadata,
    /// The names of what it imports.
    pub imports: Vec<String>,
    /// The names of what it exports.
    pub exports: Vec<String>,
    /// What it takes as soon as it is instantiated.
    pub(super) takes: Takes,
}

/// What a plugin is given in the place where it is to run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Given {
    /// What it may use.
    pub limits: Limits,
    /// Whether there are files that it may read.
    pub files: bool,
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

/// Checks the bytes of a `.wasm`, of which there are at most so many; `name` is used if it doesn't say one.
pub fn admit_upload(bytes: Bytes, name: &str, most: u64) -> Result<Admitted, Failed> {
    let (size, most) = (bytes.len() as u64, most.min(COMPONENT_BYTES));
    if size > most {
        return Err(anyhow!("it has {size} bytes, and the most allowed is {most}")).during(Check::Size);
    }
    admit(bytes, name)
}

/// Checks the bytes of a `.wasm`; `name` is used if it doesn't say one.
pub fn admit(bytes: impl Into<Bytes>, name: &str) -> Result<Admitted, Failed> {
    let bytes = bytes.into();
    let outline = Outline::read(&bytes).during(Check::Api)?;
    check_api(&outline).during(Check::Api)?;
    let metadata = metadata(&outline, name).during(Check::Api)?;
    check_imports(&outline).during(Check::Imports)?;
    let digest = Sha256::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect();
    let Outline { imports, exports, takes, .. } = outline;
    Ok(Admitted { bytes, digest, metadata, imports, exports, takes })
}

impl Admitted {
    /// Whether it is of use only where files are granted.
    pub fn reads_files(&self) -> bool {
        self.imports.iter().any(|import| import == FILES)
    }

    /// Whether it has all that it needs there: what it imports, and the limits within which it can be instantiated, as
    /// far as it says itself.
    pub fn check(&self, given: &Given) -> Result<(), Failed> {
        if self.reads_files() && !given.files {
            let why =
                "and no files are granted here: the configuration grants a directory by `files: DIR` beside `use`";
            return Err(anyhow!("it imports `{FILES}`, {why}")).during(Check::Imports);
        }
        self.takes.check(&given.limits).during(Check::Limits)
    }
}

fn check_api(outline: &Outline) -> Result<()> {
    match outline.wants() {
        Some(version) if !version.starts_with(&format!("{API_VERSION}.")) => {
            bail!(
                "it wants version {} of the plugin API, and this weir has {API_VERSION}: update weir, or build the plugin for {API_VERSION}",
                harmless(version, NAME)
            )
        }
        None => bail!("it is a component but not a plugin: it does not export `{PROCESSOR}@{API_VERSION}.0`"),
        Some(_) => Ok(()),
    }
}

fn check_imports(outline: &Outline) -> Result<()> {
    let refused: Vec<_> = outline.imports.iter().filter(|i| !GRANTED.contains(&i.as_str())).collect();
    if !refused.is_empty() {
        let mut names: Vec<_> = refused.iter().take(NAMED).map(|i| format!("`{}`", harmless(i, NAME))).collect();
        if refused.len() > NAMED {
            names.push(format!("and {} more", refused.len() - NAMED));
        }
        let names = names.join(", ");
        bail!("it imports {names}, which a plugin may not: only `log`, `count` and `files` of weir:plugin are granted");
    }
    Ok(())
}

pub(super) fn metadata(outline: &Outline, name: &str) -> Result<Metadata> {
    match &outline.metadata {
        Some(json) => Metadata::read(json).context("its custom section `weir:plugin` is not as it should be"),
        None => Ok(Metadata {
            api: API_VERSION.to_owned(),
            name: name.to_owned(),
            version: "unknown".to_owned(),
            description: String::new(),
            settings: serde_json::Value::Null,
        }),
    }
}

/// The outermost names of a component.
#[derive(Default)]
pub(super) struct Outline {
    pub(super) imports: Vec<String>,
    pub(super) exports: Vec<String>,
    metadata: Option<Vec<u8>>,
    takes: Takes,
}

/// What something takes as soon as it is instantiated.
#[derive(Clone, Copy, Default)]
pub(super) struct Takes {
    /// Bytes of linear memory.
    memory: u64,
    /// Elements of tables.
    table_elements: u64,
    memories: u64,
    tables: u64,
    instances: u64,
}

impl Takes {
    fn add(&mut self, other: &Takes) {
        self.memory = self.memory.saturating_add(other.memory);
        self.table_elements = self.table_elements.saturating_add(other.table_elements);
        self.memories += other.memories;
        self.tables += other.tables;
        self.instances += other.instances;
    }

    pub(super) fn check(&self, limits: &Limits) -> Result<()> {
        for (what, takes, most) in [
            ("bytes of memory", self.memory, limits.memory),
            ("elements of tables", self.table_elements, limits.table_elements),
            ("memories", self.memories, limits.instances),
            ("tables", self.tables, limits.instances),
            ("core instances", self.instances, limits.instances),
        ] {
            ensure!(takes <= most as u64, "it begins with {takes} {what}, and {most} are allowed here");
        }
        Ok(())
    }
}

impl Outline {
    /// The version of the contract that it is made for.
    pub(super) fn wants(&self) -> Option<&str> {
        self.exports.iter().find_map(|export| export.strip_prefix(PROCESSOR)?.strip_prefix('@'))
    }

    pub(super) fn read(bytes: &[u8]) -> Result<Outline> {
        if bytes.starts_with(b"\x7fELF") {
            bail!("it is compiled machine code, which is not taken from anybody: upload the .wasm that it was made of")
        }
        let mut outline = Outline::default();
        let mut depth = 0;
        // What each core module of the component takes; those from elsewhere take what nobody knows.
        let mut modules: Vec<Takes> = Vec::new();
        for payload in Parser::new(0).parse_all(bytes) {
            match payload.context("it is not WebAssembly, or it is damaged")? {
                Payload::Version { encoding: Encoding::Module, .. } if depth == 0 => {
                    bail!("it is a core module, not a component: build it with `weir plugin build`")
                }
                Payload::ModuleSection { .. } => {
                    if depth == 0 {
                        modules.push(Takes { instances: 1, ..Takes::default() });
                    }
                    depth += 1;
                }
                Payload::ComponentSection { .. } => depth += 1,
                Payload::End(_) => depth -= 1,
                Payload::MemorySection(section) if depth == 1 => {
                    let Some(module) = modules.last_mut() else { continue };
                    for memory in section {
                        let memory = memory?;
                        let page = memory.page_size_log2.unwrap_or(16).min(16);
                        module.memory = module.memory.saturating_add(memory.initial.saturating_mul(1 << page));
                        module.memories += 1;
                    }
                }
                Payload::TableSection(section) if depth == 1 => {
                    let Some(module) = modules.last_mut() else { continue };
                    for table in section {
                        module.table_elements = module.table_elements.saturating_add(table?.ty.initial);
                        module.tables += 1;
                    }
                }
                Payload::InstanceSection(section) if depth == 0 => {
                    for instance in section {
                        let Instance::Instantiate { module_index, .. } = instance? else { continue };
                        outline.takes.add(modules.get(module_index as usize).unwrap_or(&Takes::default()));
                    }
                }
                Payload::ComponentAliasSection(section) if depth == 0 => {
                    for alias in section {
                        let is_module = match alias? {
                            ComponentAlias::InstanceExport { kind, .. } => kind == ComponentExternalKind::Module,
                            ComponentAlias::Outer { kind, .. } => kind == ComponentOuterAliasKind::CoreModule,
                            ComponentAlias::CoreInstanceExport { .. } => false,
                        };
                        modules.extend(is_module.then(Takes::default));
                    }
                }
                Payload::ComponentImportSection(section) if depth == 0 => {
                    for import in section {
                        let import = import?;
                        if let ComponentTypeRef::Module(_) = import.ty {
                            modules.push(Takes::default());
                        }
                        outline.imports.push(import.name.name.to_owned());
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
        assert!(refusal(b"\x7fELF\x02\x01").starts_with("it is compiled machine code"));
    }

    fn outline(text: &str) -> Outline {
        Outline::read(&wat::parse_str(text).unwrap()).unwrap()
    }

    #[test]
    fn what_it_begins_with_is_within_its_limits() {
        let text = r#"(component
            (core module $unused (memory 65536))
            (core module $a (memory 2) (table 5 funcref) (table 6 funcref))
            (core module $b (memory 1))
            (core instance (instantiate $a))
            (core instance (instantiate $b))
            (core instance (instantiate $b)))"#;
        let takes = outline(text).takes;
        let found = (takes.memory, takes.table_elements, takes.memories, takes.tables, takes.instances);
        assert_eq!(found, (4 << 16, 11, 3, 2, 3));
        let limits = Limits { memory: 4 << 16, table_elements: 11, instances: 3, ..Limits::default() };
        takes.check(&limits).unwrap();
        let said = |limits: Limits| takes.check(&limits).unwrap_err().to_string();
        let less = said(Limits { memory: (4 << 16) - 1, ..limits });
        assert_eq!(less, "it begins with 262144 bytes of memory, and 262143 are allowed here");
        let less = said(Limits { table_elements: 10, ..limits });
        assert_eq!(less, "it begins with 11 elements of tables, and 10 are allowed here");
        let less = said(Limits { instances: 2, ..limits });
        assert_eq!(less, "it begins with 3 memories, and 2 are allowed here");
    }

    #[test]
    fn the_check_that_fails_is_said() {
        let check = |bytes: &[u8], most| admit_upload(bytes.to_vec().into(), "x", most).err().expect("refused").check;
        assert_eq!(check(b"hello", 4), Check::Size);
        assert_eq!(check(b"hello", 5), Check::Api);
        let processor = |version: &str, more: &str| {
            let text =
                format!(r#"(component {more} (instance $i) (export "weir:plugin/processor@{version}" (instance $i)))"#);
            wat::parse_str(text).unwrap()
        };
        assert_eq!(check(&processor("0.2.0", ""), 1 << 20), Check::Api);
        let import = r#"(import "wasi:cli/environment@0.2.0" (instance))"#;
        assert_eq!(check(&processor("0.1.0", import), 1 << 20), Check::Imports);
        let admitted = admit(processor("0.1.0", "(core module $m (memory 3)) (core instance (instantiate $m))"), "x");
        let little = Given { limits: Limits { memory: 2 << 16, ..Limits::default() }, files: false };
        assert_eq!(admitted.unwrap().check(&little).unwrap_err().check, Check::Limits);
        // Files are for those to whom they are granted, and that is looked at first.
        let import = r#"(import "weir:plugin/files@0.1.0" (instance)) (core module $m (memory 3)) (core instance (instantiate $m))"#;
        let admitted = admit(processor("0.1.0", import), "x").unwrap();
        let failed = admitted.check(&little).unwrap_err();
        let why = "it imports `weir:plugin/files@0.1.0`, and no files are granted here: the configuration grants a \
                   directory by `files: DIR` beside `use`";
        assert_eq!((failed.check, failed.to_string().as_str()), (Check::Imports, why));
        assert_eq!(admitted.check(&Given { files: true, ..little }).unwrap_err().check, Check::Limits);
        admitted.check(&Given { files: true, ..Given::default() }).unwrap();
    }
}
