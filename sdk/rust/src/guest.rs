//! The glue behind [`crate::export!`]: a plugin that has its settings, and the two functions of the contract.

use std::cell::RefCell;
use std::thread::LocalKey;

use crate::bindings::weir::plugin::event as wit;
use crate::event::Batch;
use crate::out::{Fields, Out, Sizes};
use crate::plugin::{BatchPlugin, Settings};
use crate::schema::Schema;
use crate::settings;

#[cfg(all(target_family = "wasm", feature = "allocator"))]
#[global_allocator]
static ALLOCATOR: talc::wasm::WasmDynamicTalc = talc::wasm::new_wasm_dynamic_allocator();

/// Fields that data may name before they are forgotten: a batch carries the names of all fields.
const MOST_NAMED_FIELDS: usize = 512;

/// A plugin that has its settings.
pub struct Runner<P> {
    plugin: P,
    fields: Fields,
    sizes: Sizes,
}

impl<P: BatchPlugin> Runner<P> {
    /// Reads the settings, which are JSON, and makes the plugin.
    pub fn new(settings: &str) -> Result<Self, String> {
        let settings = settings::read(settings)?;
        let mut fields = Fields::default();
        let plugin = P::new(settings, &mut fields)?;
        fields.fix();
        Ok(Runner { plugin, fields, sizes: Sizes::default() })
    }

    /// One batch in, one out.
    pub fn process(&mut self, input: &wit::Batch, last: bool) -> wit::Output {
        let batch = Batch::new(input);
        let mut out = Out::new(&mut self.fields, &batch, &self.sizes);
        self.plugin.batch(&batch, last, &mut out);
        out.finish(&mut self.sizes)
    }

    /// Whether the data has named too many fields, so that the plugin should be made anew.
    fn is_bloated(&self) -> bool {
        self.fields.is_over(MOST_NAMED_FIELDS)
    }
}

/// The plugin of a component, with the settings to make it again.
pub struct Cell<P> {
    runner: Runner<P>,
    settings: String,
}

/// `configure` of the contract.
pub fn configure<P: BatchPlugin>(
    cell: &'static LocalKey<RefCell<Option<Cell<P>>>>,
    settings: &str,
) -> Result<(), String> {
    #[cfg(target_family = "wasm")]
    std::panic::set_hook(Box::new(|panic| {
        use crate::bindings::weir::plugin::log;
        log::write(log::Level::Error, &panic.to_string());
    }));
    let runner = Runner::new(settings)?;
    cell.set(Some(Cell { runner, settings: settings.to_owned() }));
    Ok(())
}

/// `process` of the contract. Panics if the plugin was not configured.
pub fn process<P: BatchPlugin>(
    cell: &'static LocalKey<RefCell<Option<Cell<P>>>>,
    input: &wit::Batch,
    last: bool,
) -> wit::Output {
    cell.with_borrow_mut(|cell| {
        let cell = cell.as_mut().expect("configure comes before process");
        if cell.runner.is_bloated() {
            let runner = Runner::new(&cell.settings);
            cell.runner = runner.unwrap_or_else(|why| panic!("the settings were accepted before, and now: {why}"));
        }
        cell.runner.process(input, last)
    })
}

/// The schema of a plugin's settings.
pub const fn schema_of<P: BatchPlugin>() -> Schema {
    <P::Settings as Settings>::SCHEMA
}
