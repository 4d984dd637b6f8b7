//! Version 0.1 of the contract (`wit/v0.1`) to and from the host's own types.

use anyhow::Result;
use wasmtime::component::{Component, HasSelf, Linker};
use wasmtime::{Engine, Store};

use crate::event::{Batch, Kind};
use crate::sandbox::guest::Guest;

mod bindings {
    wasmtime::component::bindgen!({
        path: "../wit/v0.1",
        world: "plugin",
        ownership: Borrowing { duplicate_if_necessary: true },
        imports: { default: trappable },
    });
}

use bindings::weir::plugin::{count, event, files, log};

pub use bindings::weir::plugin::event::{FieldResult as OutputField, Output};

/// The host functions that a plugin of this version may import.
pub type HostLinker = Linker<Guest>;

/// A component whose imports are resolved.
pub type Ready = bindings::PluginPre<Guest>;

/// An instance of a plugin of this version.
pub type Bound = bindings::Plugin;

/// A linker with the host functions that every plugin may call.
pub fn linker(engine: &Engine) -> Result<HostLinker> {
    let mut linker = Linker::new(engine);
    log::add_to_linker::<_, HasSelf<Guest>>(&mut linker, |guest| guest)?;
    count::add_to_linker::<_, HasSelf<Guest>>(&mut linker, |guest| guest)?;
    files::add_to_linker::<_, HasSelf<Guest>>(&mut linker, |guest| guest)?;
    Ok(linker)
}

/// Resolves the imports of a component and finds its exports.
pub fn link(linker: &HostLinker, component: &Component) -> Result<Ready> {
    Ok(bindings::PluginPre::new(linker.instantiate_pre(component)?)?)
}

/// Calls `configure`.
pub fn configure(store: &mut Store<Guest>, bound: &Bound, settings: &str) -> wasmtime::Result<Result<(), String>> {
    bound.weir_plugin_processor().call_configure(store, settings)
}

/// Calls `process` with the events of a batch.
pub fn process(store: &mut Store<Guest>, bound: &Bound, batch: &Batch, last: bool) -> wasmtime::Result<Output> {
    let tags: Vec<_> = batch.tags.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let fields: Vec<_> =
        batch.fields.iter().map(|f| event::FieldParam { name: &f.name, kind: from_kind(f.kind) }).collect();
    let input = event::Batch {
        tags: &tags,
        data: &batch.arena,
        fields: &fields,
        rows: &batch.rows,
        cells: &batch.cells,
        times: &batch.times,
    };
    bound.weir_plugin_processor().call_process(store, input, last)
}

fn from_kind(kind: Kind) -> event::Kind {
    match kind {
        Kind::Text => event::Kind::Text,
        Kind::Integer => event::Kind::Integer,
        Kind::Float => event::Kind::Float,
        Kind::Boolean => event::Kind::Boolean,
        Kind::Json => event::Kind::Json,
    }
}

/// The host's kind of a field.
pub fn to_kind(kind: event::Kind) -> Kind {
    match kind {
        event::Kind::Text => Kind::Text,
        event::Kind::Integer => Kind::Integer,
        event::Kind::Float => Kind::Float,
        event::Kind::Boolean => Kind::Boolean,
        event::Kind::Json => Kind::Json,
    }
}

impl event::Host for Guest {}

impl log::Host for Guest {
    fn write(&mut self, level: log::Level, message: String) -> wasmtime::Result<()> {
        let level = match level {
            log::Level::Debug => tracing::Level::DEBUG,
            log::Level::Info => tracing::Level::INFO,
            log::Level::Warn => tracing::Level::WARN,
            log::Level::Error => tracing::Level::ERROR,
        };
        self.log(level, &message)
    }
}

impl count::Host for Guest {
    fn add(&mut self, name: String, amount: u64) -> wasmtime::Result<()> {
        self.count(&name, amount)
    }
}

impl files::Host for Guest {
    fn read(&mut self, path: String) -> wasmtime::Result<Result<Vec<u8>, String>> {
        self.read(&path)
    }
}
