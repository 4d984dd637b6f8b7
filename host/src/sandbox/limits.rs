//! All limits of a guest, in one place.

/// What one instance of a plugin may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Fuel of any one call, before its input is counted. An operator of WebAssembly is one fuel.
    pub fuel_base: u64,
    /// Fuel added to a call for each byte of its input. A fast parser uses 10, a Python plugin 500. It bounds a turn:
    /// all the fuel for a batch of 128 KiB is gone after 50 ms or so.
    pub fuel_per_byte: u64,
    /// Fuel of `configure`, which may build tables and compile patterns.
    pub configure_fuel: u64,
    /// Bytes of linear memory, over all memories of the instance.
    pub memory: usize,
    /// Elements of all tables of the instance together.
    pub table_elements: usize,
    /// Core instances, memories and tables, each. A Python plugin has about 20.
    pub instances: usize,
    /// Bytes that the guest may hand to the host in one call: the whole output, all that its cells stand for, or all that
    /// it logs and counts.
    pub output_bytes: usize,
    /// Events of one output.
    pub output_events: usize,
    /// Bytes of events that a plugin may hold back.
    pub held_bytes: usize,
    /// Fields of one output.
    pub fields: usize,
    /// Bytes of a field's name.
    pub field_name: usize,
    /// Bytes of the reason of a failed event; what is longer is cut.
    pub reason: usize,
    /// Log lines that are passed on for each second; as many again may be saved up.
    pub log_lines_per_second: u32,
    /// Bytes of a log line; what is longer is cut.
    pub log_line: usize,
    /// Names of the plugin's own counters.
    pub counters: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            fuel_base: 10_000_000,
            fuel_per_byte: 2_000,
            configure_fuel: 2_000_000_000,
            memory: 64 << 20,
            table_elements: 100_000,
            instances: 64,
            output_bytes: 16 << 20,
            output_events: 1_000_000,
            held_bytes: 4 << 20,
            fields: 4096,
            field_name: 256,
            reason: 256,
            log_lines_per_second: 10,
            log_line: 1024,
            counters: 64,
        }
    }
}

impl Limits {
    /// Fuel of a call whose input has so many bytes and events.
    pub fn fuel(&self, bytes: usize, events: usize) -> u64 {
        let size = (bytes + EVENT_BYTES * events).min(FUEL_BYTES);
        self.fuel_base.saturating_add(self.fuel_per_byte.saturating_mul(size as u64))
    }
}

/// An event counts as so many bytes more: an empty one costs its plugin as much as a short one, and in Python and JavaScript
/// a hundred thousand fuel.
const EVENT_BYTES: usize = 64;

/// Bytes of input, events counted in, for which a call gets fuel: what is larger gets no more. Four times what is read at
/// once, so that held and swollen batches don't make a turn longer.
pub const FUEL_BYTES: usize = 512 << 10;

/// Bytes of a `.wasm`; more is refused before it is read. A Python plugin has 18 MB.
pub const COMPONENT_BYTES: u64 = 64 << 20;

/// Bytes of what a plugin says of itself.
pub const METADATA_BYTES: usize = 256 << 10;

/// Bytes of a plugin's name. It stands in each of its errors.
pub const PLUGIN_NAME: usize = 64;

/// What compiling one plugin may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompileLimits {
    /// Seconds of CPU time. A Python plugin takes 14.
    pub cpu_seconds: u64,
    /// Seconds by the clock: it has the lowest priority, and may have to wait.
    pub seconds: u64,
    /// Bytes of address space.
    pub memory: u64,
    /// Bytes of compiled code: about three times the `.wasm`.
    pub output: u64,
}

impl Default for CompileLimits {
    fn default() -> Self {
        CompileLimits { cpu_seconds: 120, seconds: 600, memory: 4 << 30, output: 512 << 20 }
    }
}

/// Part of the memory limit, in percent, past which an instance is replaced between two batches: linear
/// memory never shrinks.
pub const RECYCLE_PERCENT: usize = 75;
