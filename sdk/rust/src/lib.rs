//! Write parsers and filters for weir: a type with settings, one method for one event, one macro line.
//!
//! ```
//! use weir_plugin::prelude::*;
//!
//! /// What the plugin's user may set.
//! #[derive(Deserialize, Settings)]
//! struct Config {
//!     /// The byte between a key and its value.
//!     #[serde(default = "equals")]
//!     separator: char,
//! }
//!
//! fn equals() -> char {
//!     '='
//! }
//!
//! struct KeyValue {
//!     separator: char,
//!     key: FieldId,
//!     value: FieldId,
//! }
//!
//! impl Plugin for KeyValue {
//!     type Settings = Config;
//!
//!     fn new(config: Config, fields: &mut Fields) -> Result<Self, String> {
//!         let (key, value) = (fields.add("key", Kind::Text), fields.add("value", Kind::Text));
//!         Ok(KeyValue { separator: config.separator, key, value })
//!     }
//!
//!     fn event(&mut self, event: &Event, row: &mut Row) -> Result<Fate, Failure> {
//!         let line = event.text().ok_or("not UTF-8")?;
//!         let (key, value) = line.split_once(self.separator).ok_or("no separator")?;
//!         row.put(self.key, key.as_bytes()); // a slice of the event: nothing is copied
//!         row.put(self.value, value.as_bytes());
//!         Ok(Keep)
//!     }
//! }
//!
//! weir_plugin::export!(KeyValue);
//!
//! let events = weir_plugin::testing::run::<KeyValue>("{}", &["a=1", "broken"]).unwrap();
//! assert_eq!(events[0].get("value"), Some("1"));
//! assert_eq!(events[1].error.as_deref(), Some("no separator"));
//! ```
//!
//! Rooms: [`plugin`] what an author implements · [`event`] what comes in · [`source`] which field of it is read ·
//! [`out`] what goes out · [`keys`] fields that the data names · [`template`] lines written by a format ·
//! [`files`] what is granted · [`schema`] settings described · [`settings`] and read · [`scan`], [`escape`], [`time`], [`moment`] and
//! [`network`] helpers · [`testing`] for `cargo test` · [`guest`] the glue behind [`export!`].

pub mod escape;
pub mod event;
pub mod files;
pub mod guest;
pub mod keys;
mod kind;
pub mod moment;
mod named;
pub mod network;
pub mod out;
pub mod plugin;
pub mod scan;
pub mod schema;
pub mod settings;
pub mod source;
pub mod template;
pub mod testing;
pub mod time;

/// What [`export!`] needs from the contract; generated from `wit/v0.1`.
#[allow(missing_docs, unsafe_code, clippy::all)]
pub mod bindings {
    wit_bindgen::generate!({
        path: "wit",
        world: "plugin",
        pub_export_macro: true,
        default_bindings_module: "weir_plugin::bindings",
        generate_all,
    });
}

/// The version of the contract that this SDK builds for.
pub const API_VERSION: &str = "0.1";

pub use bindings::weir::plugin::event::Kind;
pub use named::{Kinds, Named};
pub use plugin::Settings;
pub use weir_plugin_macros::Settings;

/// Everything that a plugin's source needs.
pub mod prelude {
    pub use crate::event::{Batch, Event};
    pub use crate::out::{FieldId, Fields, Out, Row};
    pub use crate::plugin::Fate::{self, Drop, Keep};
    pub use crate::plugin::{BatchPlugin, Failure, NoSettings, Plugin};
    pub use crate::source::Source;
    pub use crate::{Kind, Kinds, Named, Settings};
    pub use serde::Deserialize;
}

extern crate self as weir_plugin;

/// Makes a plugin of a type that implements [`plugin::Plugin`] or [`plugin::BatchPlugin`].
///
/// Its name is the crate's, unless given: `export!(Nginx, name = "nginx")`. Version and description are the
/// crate's. Only in a build for WebAssembly is anything generated.
#[macro_export]
macro_rules! export {
    ($plugin:ty) => {
        $crate::export!($plugin, name = env!("CARGO_PKG_NAME"));
    };
    ($plugin:ty, name = $name:expr) => {
        #[cfg(target_family = "wasm")]
        #[allow(unsafe_code)]
        const _: () = {
            struct Component;

            std::thread_local! {
                static PLUGIN: std::cell::RefCell<Option<$crate::guest::Cell<$plugin>>> =
                    const { std::cell::RefCell::new(None) };
            }

            impl $crate::bindings::exports::weir::plugin::processor::Guest for Component {
                fn configure(settings: String) -> Result<(), String> {
                    $crate::guest::configure(&PLUGIN, &settings)
                }

                fn process(
                    input: $crate::bindings::exports::weir::plugin::processor::Batch,
                    last: bool,
                ) -> $crate::bindings::exports::weir::plugin::processor::Output {
                    $crate::guest::process(&PLUGIN, &input, last)
                }
            }

    $crate::bindings::export!(Component with_types_in $crate::bindings);

            const METADATA: $crate::schema::Metadata = $crate::schema::Metadata {
                name: $name,
                version: env!("CARGO_PKG_VERSION"),
                description: env!("CARGO_PKG_DESCRIPTION"),
                settings: &$crate::guest::schema_of::<$plugin>(),
            };
            #[used]
            #[unsafe(link_section = "weir:plugin")]
            static SECTION: [u8; METADATA.json_len()] = METADATA.to_json();
        };
    };
}
