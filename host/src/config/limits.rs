//! Limits of plugins, and the ceilings over them that a project has.

use std::collections::BTreeMap;

use super::fields::Fields;
use super::problem::Place;
use super::raw::{Node, Value};
use super::units::show_size;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

macro_rules! limits {
    ($($(#[$doc:meta])* $key:ident: $unit:ident, $default:expr, $least:expr, $most:expr;)*) => {
        /// What one instance of a plugin may use; of a project: what any of its plugins may be given.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct Limits { $($(#[$doc])* pub $key: u64,)* }

        impl Default for Limits {
            fn default() -> Self {
                Limits { $($key: $default,)* }
            }
        }

        impl Limits {
            /// The largest of each that can be asked for.
            pub const MOST: Limits = Limits { $($key: $most,)* };

            /// The smaller one of each.
            pub fn within(&self, ceilings: &Limits) -> Limits {
                Limits { $($key: self.$key.min(ceilings.$key),)* }
            }

            /// Reads them; what is not there is the default, or the ceiling if that is lower.
            fn read(node: Option<&Node>, default: &Limits, ceilings: &Ceilings, fields: &mut Fields) -> Limits {
                let table = node.and_then(|node| fields.table(node, &[$(stringify!($key),)*]));
                let mut read = |key, unit, default, range, ceiling| {
                    let node = table.as_ref().and_then(|table| table.get(key));
                    let Some(node) = node else { return u64::min(default, ceiling) };
                    let value = match unit {
                        Unit::Number => fields.integer(Some(node), default, range),
                        Unit::Size => fields.size(Some(node), default, range),
                    };
                    if value > ceiling && let Some(place) = ceilings.places.get(key) {
                        fields.error(node, above(node, &unit.show(ceiling), place));
                    }
                    value
                };
                Limits {
                    $($key: read(
                        stringify!($key), Unit::$unit, default.$key, $least..=$most, ceilings.limits.$key,
                    ),)*
                }
            }
        }
    };
}

// Key: unit, default, least, most.
limits! {
    /// Fuel of every call. An operator of WebAssembly is one fuel.
    fuel_base: Number, 10_000_000, 1, 1_000_000_000_000_000;
    /// Fuel of a call for each byte of its input, on top.
    fuel_per_byte: Number, 2_000, 1, 1_000_000_000;
    /// Fuel of `configure`.
    configure_fuel: Number, 2_000_000_000, 1, 1_000_000_000_000_000;
    /// Bytes of linear memory, over all memories of the instance.
    memory: Size, 64 * MIB, MIB, GIB;
    /// Elements of one table.
    table_elements: Number, 100_000, 1, 10_000_000;
    /// Core instances, memories and tables, each.
    instances: Number, 64, 1, 1_000;
    /// Bytes that the guest may hand to the host in one call.
    output_bytes: Size, 16 * MIB, KIB, GIB;
    /// Events of one output.
    output_events: Number, 1_000_000, 1, 100_000_000;
    /// Bytes of events that a plugin may hold back.
    held_bytes: Size, 4 * MIB, 0, GIB;
    /// Fields of one output.
    fields: Number, 4_096, 1, 65_536;
    /// Bytes of a field's name.
    field_name: Size, 256, 1, 64 * KIB;
    /// Bytes of the reason of a failed event; what is longer is cut.
    reason: Size, 256, 0, 64 * KIB;
    /// Log lines that are passed on for each second; as many again may be saved up.
    log_lines_per_second: Number, 10, 0, 10_000;
    /// Bytes of a log line; what is longer is cut.
    log_line: Size, KIB, 16, 64 * KIB;
    /// Names of the plugin's own counters.
    counters: Number, 64, 0, 10_000;
}

#[derive(Clone, Copy)]
enum Unit {
    Number,
    Size,
}

impl Unit {
    fn show(self, value: u64) -> String {
        match self {
            Unit::Number => value.to_string(),
            Unit::Size => show_size(value),
        }
    }
}

/// What a project allows its plugins, and where it says so.
pub struct Ceilings {
    pub limits: Limits,
    places: BTreeMap<String, Place>,
}

impl Default for Ceilings {
    fn default() -> Self {
        Ceilings { limits: Limits::MOST, places: BTreeMap::new() }
    }
}

impl Ceilings {
    /// What a project's `limits` say, and its memory, of which no plugin can have more.
    pub fn read(node: Option<&Node>, memory: Option<(u64, Place)>, fields: &mut Fields) -> Ceilings {
        let mut limits = Limits::read(node, &Limits::MOST, &Ceilings::default(), fields);
        let mut places = BTreeMap::new();
        if let Some(Node { value: Value::Map(entries), .. }) = node {
            places.extend(entries.iter().map(|(key, node)| (key.clone(), node.place())));
        }
        if let Some((memory, place)) = memory
            && memory < limits.memory
        {
            limits.memory = memory;
            places.insert("memory".into(), place);
        }
        Ceilings { limits, places }
    }
}

/// The limits of a plugin, below its project's ceilings.
pub fn limits(node: Option<&Node>, ceilings: &Ceilings, fields: &mut Fields) -> Limits {
    Limits::read(node, &Limits::default(), ceilings, fields)
}

fn above(node: &Node, ceiling: &str, place: &Place) -> String {
    format!("must be at most {ceiling} by {} on line {}, not {}", place.path, place.line, node.shown())
}

#[cfg(test)]
mod tests {
    use super::super::{Loaded, Project, parse};
    use super::*;

    /// A config with these keys of the project `p`, and of the limits of its only plugin from line 4 on.
    fn with(project: &str, limits: &str) -> String {
        let limits = limits.replace('\n', "\n  ");
        format!(
            "projects: {{ p: {{ {project} }} }}
logstores:
- {{ name: p/a, files: {{ root: /x }}, sink: s, plugins: [{{ use: x, limits: {{
  {limits}
  }} }}] }}
sinks: {{ s: {{ type: blackhole }} }}
"
        )
    }

    /// The project and the plugin's limits.
    fn loaded(project: &str, limits: &str) -> (Project, Limits) {
        let Loaded { config, warnings } = parse(&with(project, limits), "weir.yaml", &|_| None).unwrap();
        assert_eq!(warnings, []);
        (config.projects["p"].clone(), config.logstores[0].plugins[0].limits.clone())
    }

    fn errors(project: &str, limits: &str) -> String {
        parse(&with(project, limits), "weir.yaml", &|_| None).unwrap_err().to_string()
    }

    #[test]
    fn each_limit_has_its_key() {
        let keys = "fuel_base: 1, fuel_per_byte: 2, configure_fuel: 3, memory: 4MiB, table_elements: 5, instances: 6,
            output_bytes: 7KiB, output_events: 8, held_bytes: 9KiB, fields: 10, field_name: 11B, reason: 12,
            log_lines_per_second: 3, log_line: 1KB, counters: 15";
        let expected = Limits {
            fuel_base: 1,
            fuel_per_byte: 2,
            configure_fuel: 3,
            memory: 4 << 20,
            table_elements: 5,
            instances: 6,
            output_bytes: 7 << 10,
            output_events: 8,
            held_bytes: 9 << 10,
            fields: 10,
            field_name: 11,
            reason: 12,
            log_lines_per_second: 3,
            log_line: 1000,
            counters: 15,
        };
        assert_eq!(loaded("", keys), (Project::default(), expected.clone()));
        // As ceilings of the project, they are what its plugins get.
        let (project, plugin) = loaded(&format!("limits: {{ {keys} }}"), "");
        assert_eq!((project.limits, plugin), (expected.clone(), expected));
        assert_eq!(loaded("limits: {}", ""), (Project::default(), Limits::default()));
    }

    #[test]
    fn a_default_is_lowered_to_the_ceiling_and_never_raised() {
        let (_, plugin) = loaded("limits: { fuel_base: 20000000, fields: 4095 }", "");
        assert_eq!(plugin, Limits { fields: 4095, ..Limits::default() });
        let (project, plugin) = loaded("memory: 16MiB, limits: { memory: 32MiB }", "");
        assert_eq!((project.memory, project.limits.memory, plugin.memory), (Some(16 << 20), 16 << 20, 16 << 20));
        let (_, plugin) = loaded("memory: 1GiB, limits: { memory: 32MiB }", "memory: 32MiB");
        assert_eq!(plugin.memory, 32 << 20);
        let (_, plugin) = loaded("memory: 1GiB", "");
        assert_eq!(plugin.memory, 64 << 20);
    }

    #[test]
    fn what_is_above_a_ceiling_or_out_of_range_is_told_at_its_place() {
        let limits = "memory: 64MiB,\nfuel_base: 11,\nheld_bytes: 2MiB,\noutput_events: 0,\nreason: 65KiB,\nconters: 1";
        let said =
            errors("memory: 16MiB, limits: { memory: 32MiB, fuel_base: 10, held_bytes: 1MiB, fields: 0 }", limits);
        let keys = "hint: did you mean `counters`?";
        let expected = format!(
            "weir.yaml:1:91: projects.p.limits.fields: must be an integer from 1 to 65536, not 0
weir.yaml:4:3: P.memory: must be at most 16MiB by projects.p.memory on line 1, not \"64MiB\"
weir.yaml:5:3: P.fuel_base: must be at most 10 by projects.p.limits.fuel_base on line 1, not 11
weir.yaml:6:3: P.held_bytes: must be at most 1MiB by projects.p.limits.held_bytes on line 1, not \"2MiB\"
weir.yaml:7:3: P.output_events: must be an integer from 1 to 100000000, not 0
weir.yaml:8:3: P.reason: must be a size from 0B to 64KiB, not \"65KiB\"
weir.yaml:9:3: P.conters: unknown key
  {keys}
7 errors in weir.yaml"
        );
        assert_eq!(said, expected.replace("P.", "logstores[0].plugins[0].limits."));
    }
}
