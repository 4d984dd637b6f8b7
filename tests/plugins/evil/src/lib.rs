//! A hostile plugin: one attack a mode, against the contract itself and not through the SDK.
//!
//! `{"mode": "behave"}` gives back what came in; every other mode is named for what it does wrong.

// Outside of the sandbox there is nothing to attack.
#![cfg(target_family = "wasm")]

use std::cell::Cell;
use std::hint::black_box;

use serde::Deserialize;
use weir_plugin::bindings::exports::weir::plugin::processor::{Batch, Guest, Output};
use weir_plugin::bindings::weir::plugin::event::{Field, Kind};
use weir_plugin::bindings::weir::plugin::{count, log};

#[derive(Deserialize)]
struct Settings {
    mode: Mode,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Mode {
    Behave,
    // Before any event.
    Refuse,
    PanicInConfigure,
    SpinInConfigure,
    // Using too much, or dying.
    Spin,
    Recurse,
    Grow,
    Panic,
    PanicOnPoison,
    // Lying about numbers.
    CellOutOfBounds,
    CellAcrossTheEdge,
    StartAfterEnd,
    PartOfACell,
    RowsDecrease,
    RowsEndEarly,
    UnknownField,
    TooFewTimes,
    OriginsDecrease,
    OriginsOutOfBounds,
    OriginsEmpty,
    TooManyHeld,
    FailedTwice,
    FailedAndKept,
    UnknownReason,
    // Lying about names.
    EmptyName,
    ReservedName,
    LongName,
    ManyFields,
    // Handing over more than there is, or than the host should take.
    BeyondMemory,
    Gigabyte,
    Swell,
    LongReason,
    // Being a nuisance within the contract.
    HoldForEver,
    LogFlood,
    CountFlood,
    DropAll,
    FailAll,
}

thread_local! {
    static MODE: Cell<Mode> = const { Cell::new(Mode::Behave) };
}

struct Evil;

impl Guest for Evil {
    fn configure(settings: String) -> Result<(), String> {
        std::panic::set_hook(Box::new(|panic| log::write(log::Level::Error, &panic.to_string())));
        let Settings { mode } = serde_json::from_str(&settings).map_err(|error| error.to_string())?;
        match mode {
            Mode::Refuse => return Err("mode: \"refuse\" is not \x1b[31mto my taste".to_owned()),
            Mode::PanicInConfigure => panic!("born dead"),
            Mode::SpinInConfigure => spin(),
            _ => MODE.set(mode),
        }
        Ok(())
    }

    fn process(input: Batch, _: bool) -> Output {
        let (events, bytes) = (input.rows.len() as u32, input.data.len() as u32);
        let poisoned = input.data.windows(6).any(|six| six == b"poison");
        let mut out = honest(input);
        match MODE.get() {
            Mode::Behave | Mode::Refuse | Mode::PanicInConfigure | Mode::SpinInConfigure => {}

            Mode::Spin => spin(),
            Mode::Recurse => _ = recurse(1),
            Mode::Grow => grow(),
            Mode::Panic => panic!("on purpose"),
            Mode::PanicOnPoison if poisoned => panic!("swallowed poison"),
            Mode::PanicOnPoison => {}

            Mode::CellOutOfBounds => out.cells[2] = bytes + 1,
            Mode::CellAcrossTheEdge => {
                out.made = b"made".to_vec();
                out.cells[1..3].copy_from_slice(&[bytes - 1, bytes + 1]);
            }
            Mode::StartAfterEnd => out.cells[1..3].copy_from_slice(&[2, 1]),
            Mode::PartOfACell => _ = out.cells.pop(),
            Mode::RowsDecrease => out.rows[0] = u32::MAX,
            Mode::RowsEndEarly => *last(&mut out.rows) -= 1,
            Mode::UnknownField => out.cells[0] = 7,
            Mode::TooFewTimes => out.times = vec![0; events as usize - 1],
            Mode::OriginsDecrease => {
                out.origins = one_to_one(events);
                out.origins.rotate_left(2);
            }
            Mode::OriginsOutOfBounds => {
                out.origins = one_to_one(events);
                *last(&mut out.origins) = u32::MAX;
            }
            Mode::OriginsEmpty => {
                out.origins = one_to_one(events);
                out.origins[1] = 0;
            }
            Mode::TooManyHeld => out = Output { held: events + 1, ..nothing() },
            Mode::FailedTwice => {
                out = Output { reasons: vec!["bad".to_owned()], failed: vec![0, 0, 0, 0], ..nothing() }
            }
            Mode::FailedAndKept => {
                out.origins = one_to_one(events);
                (out.reasons, out.failed) = (vec!["bad".to_owned()], vec![0, 0]);
            }
            Mode::UnknownReason => out = Output { reasons: vec!["bad".to_owned()], failed: vec![0, 1], ..nothing() },

            Mode::EmptyName => out.fields[0].name.clear(),
            Mode::ReservedName => out.fields[0].name = "__time__".to_owned(),
            Mode::LongName => out.fields[0].name = "n".repeat(100_000),
            Mode::ManyFields => out.fields = (0..5000).map(|n| field(&format!("f{n}"))).collect(),

            Mode::BeyondMemory => out.made = beyond_memory(),
            Mode::Gigabyte => out.made = unwritten(900 << 20),
            Mode::Swell => {
                // All events again and again in one event: a few numbers that stand for many bytes.
                let cells = (128 << 20) / bytes;
                out.cells = [0, 0, bytes].repeat(cells as usize);
                (out.rows, out.origins) = (vec![cells], vec![0, events]);
            }
            Mode::LongReason => out = fail_all(events, &"ä\x1b".repeat(10_000)),

            Mode::HoldForEver => out = Output { held: events, ..nothing() },
            Mode::LogFlood => {
                for line in 0..100_000 {
                    log::write(log::Level::Warn, &format!("flood {line}\x1b[2J\x07\r\nERROR weir: forged"));
                }
            }
            Mode::CountFlood => (0..5000).for_each(|n| count::add(&format!("counter{n}"), u64::MAX)),
            Mode::DropAll => out = nothing(),
            Mode::FailAll => out = fail_all(events, "as I please"),
        }
        out
    }
}

/// What came in, as it came in.
fn honest(input: Batch) -> Output {
    Output { fields: input.fields, rows: input.rows, cells: input.cells, ..nothing() }
}

fn nothing() -> Output {
    Output {
        made: vec![],
        fields: vec![],
        rows: vec![],
        cells: vec![],
        times: vec![],
        origins: vec![],
        reasons: vec![],
        failed: vec![],
        held: 0,
    }
}

fn fail_all(events: u32, reason: &str) -> Output {
    let failed = (0..events).flat_map(|event| [event, 0]).collect();
    Output { reasons: vec![reason.to_owned()], failed, ..nothing() }
}

fn one_to_one(events: u32) -> Vec<u32> {
    (0..events).flat_map(|event| [event, event + 1]).collect()
}

fn field(name: &str) -> Field {
    Field { name: name.to_owned(), kind: Kind::Text }
}

fn last(numbers: &mut [u32]) -> &mut u32 {
    numbers.last_mut().expect("a batch has events")
}

fn spin() {
    let mut turns = 0u64;
    loop {
        turns = black_box(turns.wrapping_add(1));
    }
}

fn recurse(depth: u64) -> u64 {
    if black_box(false) { depth } else { recurse(black_box(depth + 1)) + 1 }
}

fn grow() {
    let mut kept = Vec::new();
    loop {
        kept.push(black_box(Vec::<u8>::with_capacity(1 << 20)));
    }
}

/// A list that claims to be longer than all of linear memory.
#[allow(unsafe_code)]
fn beyond_memory() -> Vec<u8> {
    // SAFETY: there is none; to break this promise is the attack. Nobody but the host looks at the list: the
    // guest does not free it before the host has read it, and the instance does not live that long.
    unsafe { Vec::from_raw_parts(64 as *mut u8, 1 << 30, 1 << 30) }
}

/// A large list in memory that the plugin may have, but has not touched.
#[allow(unsafe_code)]
fn unwritten(bytes: usize) -> Vec<u8> {
    let mut list = Vec::with_capacity(bytes);
    // SAFETY: memory that WebAssembly gives is zero, and has room for so many bytes.
    unsafe { list.set_len(bytes) };
    list
}

#[allow(unsafe_code)]
const _: () = {
    weir_plugin::bindings::export!(Evil with_types_in weir_plugin::bindings);
};
