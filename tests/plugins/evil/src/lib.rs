//! A hostile plugin: one attack a mode, against the contract itself and not through the SDK.
//!
//! `{"mode": "behave"}` gives back what came in; every other mode is named for what it does wrong. With `"after": 20` an
//! instance behaves for so many calls before.

// Outside of the sandbox there is nothing to attack.
#![cfg(target_family = "wasm")]

mod allocator;

use std::cell::{Cell, RefCell};
use std::hint::black_box;
use std::sync::atomic::Ordering;

use serde::Deserialize;
use weir_plugin::bindings::exports::weir::plugin::processor::{Batch, Guest, Output};
use weir_plugin::bindings::weir::plugin::event::{Field, Kind};
use weir_plugin::bindings::weir::plugin::{count, log};

#[derive(Deserialize)]
struct Settings {
    mode: Mode,
    /// Calls of an instance in which it behaves.
    #[serde(default)]
    after: u32,
    /// Fuel that taking the settings uses.
    #[serde(default)]
    configure: u64,
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
    SpinInAlloc,
    SpinInFree,
    SpinOnPoison,
    Recurse,
    Grow,
    Panic,
    PanicOnPoison,
    PanicOnPoisonAndHoldLast,
    PanicOnPoisonBehindHeld,
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
    OddNames,
    DuplicateNames,
    // Lying about what cells and times are.
    Garbage,
    TimesOutOfRange,
    // Handing over more than there is, or than the host should take.
    BeyondMemory,
    Gigabyte,
    Swell,
    LongReason,
    ManyReasons,
    ManyEvents,
    LongNames,
    SwellAlone,
    // Being a nuisance within the contract.
    HoldForEver,
    HoldForEverAndSpin,
    Repeat,
    Hog,
    Gorge,
    Greedy,
    LogFlood,
    LogMegabytes,
    LogWithoutEnd,
    CountWithoutEnd,
    CountFlood,
    DropAll,
    FailAll,
}

thread_local! {
    static MODE: Cell<Mode> = const { Cell::new(Mode::Behave) };
    /// Calls in which it still behaves.
    static GOOD: Cell<u32> = const { Cell::new(0) };
    static GORGED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// What it takes for good: not so much that its instance is replaced.
const GORGE: usize = 40 << 20;

struct Evil;

impl Guest for Evil {
    fn configure(settings: String) -> Result<(), String> {
        std::panic::set_hook(Box::new(|panic| log::write(log::Level::Error, &panic.to_string())));
        let Settings { mode, after, configure } = serde_json::from_str(&settings).map_err(|error| error.to_string())?;
        spend(configure);
        match mode {
            Mode::Refuse => return Err("mode: \"refuse\" is not \x1b[31mto my taste".to_owned()),
            Mode::PanicInConfigure => panic!("born dead"),
            Mode::SpinInConfigure => spin(),
            Mode::SpinInAlloc if after == 0 => allocator::SPINS_IN_ALLOC.store(true, Ordering::Relaxed),
            _ => {
                MODE.set(mode);
                GOOD.set(after);
            }
        }
        Ok(())
    }

    fn process(input: Batch, last: bool) -> Output {
        let good = GOOD.get();
        GOOD.set(good.saturating_sub(1));
        if good == 0 { attack(input, last) } else { honest(input) }
    }
}

/// Its name is in stacks.
#[inline(never)]
fn attack(input: Batch, is_last: bool) -> Output {
    let (events, bytes) = (input.rows.len() as u32, input.data.len() as u32);
    let poisoned = |from: usize, until: usize| {
        let mut cells = input.cells.chunks_exact(3).take(until).skip(from);
        cells.any(|cell| input.data[cell[1] as usize..cell[2] as usize].windows(6).any(|six| six == b"poison"))
    };
    let is_poisoned = poisoned(0, input.cells.len());
    // What it would hold does not count: it has not been looked at.
    let is_poisoned_before_last = poisoned(0, input.cells.len() / 3 - usize::from(!is_last));
    let mut out = honest(input);
    match MODE.get() {
        Mode::Behave | Mode::Refuse | Mode::PanicInConfigure | Mode::SpinInConfigure => {}

        Mode::Spin => spin(),
        Mode::SpinInAlloc => allocator::SPINS_IN_ALLOC.store(true, Ordering::Relaxed),
        Mode::SpinInFree => allocator::SPINS_IN_FREE.store(true, Ordering::Relaxed),
        Mode::SpinOnPoison if is_poisoned => spin(),
        Mode::SpinOnPoison => {}
        Mode::Recurse => _ = recurse(1),
        Mode::Grow => grow(),
        Mode::Panic => panic!("on purpose"),
        Mode::PanicOnPoison | Mode::PanicOnPoisonAndHoldLast if is_poisoned => panic!("swallowed poison"),
        Mode::PanicOnPoisonBehindHeld if is_poisoned_before_last => panic!("swallowed poison"),
        Mode::PanicOnPoison => {}
        Mode::PanicOnPoisonAndHoldLast | Mode::PanicOnPoisonBehindHeld if is_last => {}
        Mode::PanicOnPoisonAndHoldLast | Mode::PanicOnPoisonBehindHeld => {
            out.held = 1;
            out.rows.pop();
            out.cells.truncate(3 * out.rows.last().map_or(0, |end| *end as usize));
        }

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
        Mode::FailedTwice => out = Output { reasons: vec!["bad".to_owned()], failed: vec![0, 0, 0, 0], ..nothing() },
        Mode::FailedAndKept => {
            out.origins = one_to_one(events);
            (out.reasons, out.failed) = (vec!["bad".to_owned()], vec![0, 0]);
        }
        Mode::UnknownReason => out = Output { reasons: vec!["bad".to_owned()], failed: vec![0, 1], ..nothing() },

        Mode::EmptyName => out.fields[0].name.clear(),
        Mode::ReservedName => out.fields[0].name = "__time__".to_owned(),
        Mode::LongName => out.fields[0].name = "n".repeat(100_000),
        Mode::ManyFields => out.fields = (0..5000).map(|n| field(&format!("f{n}"))).collect(),
        Mode::OddNames => {
            out.fields = ODD_NAMES.map(field).into();
            each_cell_as(&mut out, ODD_NAMES.len() as u32);
        }
        Mode::DuplicateNames => {
            out.fields = vec![field("path"), field("path"), Field { name: "path".to_owned(), kind: Kind::Json }];
            each_cell_as(&mut out, 3);
        }

        Mode::Garbage => garbage(&mut out, events, bytes),
        Mode::TimesOutOfRange => {
            out.times = (0..events as usize).map(|event| STRANGE_TIMES[event % STRANGE_TIMES.len()]).collect();
        }

        Mode::BeyondMemory => out.made = beyond_memory(),
        Mode::Gigabyte => out.made = unwritten(900 << 20),
        Mode::Swell => {
            // All events again and again in one event: a few numbers that stand for many bytes.
            let cells = (128 << 20) / bytes;
            out.cells = [0, 0, bytes].repeat(cells as usize);
            (out.rows, out.origins) = (vec![cells], vec![0, events]);
        }
        Mode::LongReason => out = fail_all(events, &"ä\x1b".repeat(10_000)),
        Mode::ManyReasons => {
            out = fail_all(events, "as I please");
            out.reasons = vec![String::new(); 100_000];
            *last(&mut out.reasons) = "the last of many".to_owned();
            out.failed.iter_mut().skip(1).step_by(2).for_each(|reason| *reason = 99_999);
        }
        Mode::ManyEvents => {
            out = Output { rows: vec![0; 1_200_000], origins: [0, events].repeat(1_200_000), ..nothing() }
        }
        Mode::LongNames => {
            // Names are written as often as they are referred to.
            out.fields[0].name = "\x01".repeat(256);
            out.cells = [0, 0, 0].repeat(400_000);
            (out.rows, out.origins) = (vec![400_000], vec![0, events]);
        }

        Mode::SwellAlone if events > 1 => panic!("too many"),
        Mode::SwellAlone => {
            // Not too much for one event.
            out.fields[0].name = "n".repeat(256);
            (out.rows, out.cells) = (vec![40_000], [0, 0, 0].repeat(40_000));
        }

        Mode::HoldForEver => out = Output { held: events, ..nothing() },
        Mode::HoldForEverAndSpin if bytes > HELD => spin(),
        Mode::HoldForEverAndSpin => out = Output { held: events, ..nothing() },
        Mode::Repeat => {
            // Each event a hundred times.
            let again = |event: u32| [event, event + 1].repeat(100);
            out.origins = (0..events).flat_map(again).collect();
            out.cells = out.cells.chunks_exact(3).flat_map(|cell| cell.repeat(100)).collect();
            out.rows = (1..=events * 100).collect();
        }
        Mode::Hog => _ = black_box(Vec::<u8>::with_capacity(56 << 20)),
        Mode::Gorge => GORGED.with_borrow_mut(|gorged| gorge(gorged)),
        Mode::Greedy => spend(9 * (1_000_000 + 200 * (u64::from(bytes) + 16 * u64::from(events)))),
        Mode::LogFlood => {
            for line in 0..100_000 {
                log::write(log::Level::Warn, &format!("flood {line}\x1b[2J\x07\r\nERROR weir: forged"));
            }
        }
        Mode::LogMegabytes => log::write(log::Level::Warn, &"flood\x1b[2J\x07\r\n".repeat(600_000)),
        Mode::LogWithoutEnd => {
            let message = "flood".repeat(200_000);
            loop {
                log::write(log::Level::Warn, &message);
            }
        }
        Mode::CountWithoutEnd => loop {
            count::add("without end", 1);
        },
        Mode::CountFlood => (0..5000).for_each(|n| count::add(&format!("counter{n}"), u64::MAX)),
        Mode::DropAll => out = nothing(),
        Mode::FailAll => out = fail_all(events, "as I please"),
    }
    out
}

/// Names that JSON, terminals and the host itself might stumble over.
const ODD_NAMES: [&str; 9] =
    ["\0\x1b[31m", "a\"b", "line\nbreak", "\\u12", "\u{fffd}\u{10ffff}", "path", "_", " ", "content"];

/// The ends of what a time may be, and the one that means none.
const STRANGE_TIMES: [i64; 5] = [i64::MAX, i64::MIN + 1, -1, i64::MIN, 0];

/// Bytes that it holds before it attacks.
const HELD: u32 = 3 << 20;

/// Each event's one cell so many times, as the fields 0, 1, ….
fn each_cell_as(out: &mut Output, fields: u32) {
    let copies = |cell: &[u32]| (0..fields).flat_map(|field| [field, cell[1], cell[2]]).collect::<Vec<_>>();
    out.cells = out.cells.chunks_exact(3).flat_map(copies).collect();
    out.rows.iter_mut().for_each(|end| *end *= fields);
}

/// Cells of each kind that are nothing of the kind.
fn garbage(out: &mut Output, events: u32, bytes: u32) {
    let deep = "[".repeat(100_000);
    let texts = ["1,\"x\":2", "01", "NaN", "tru", "{\"a\":", "\"\u{0}\"", "1 2", "\"\\ud800\"", &deep, "\"\n\""];
    let mut cells = Vec::new();
    out.fields.clear();
    let kinds = [("integer", Kind::Integer), ("float", Kind::Float), ("boolean", Kind::Boolean), ("json", Kind::Json)];
    for (name, kind) in kinds {
        for (number, text) in texts.iter().enumerate() {
            let start = bytes + out.made.len() as u32;
            out.made.extend_from_slice(text.as_bytes());
            cells.extend([out.fields.len() as u32, start, bytes + out.made.len() as u32]);
            out.fields.push(Field { name: format!("{name}{number}"), kind });
        }
    }
    // The first event has them all, the others one each.
    let count = out.fields.len() as u32;
    out.rows = (0..events).map(|event| count + event).collect();
    cells.extend((1..events).flat_map(|event| [event % count].into_iter().chain([bytes, bytes + 2])));
    out.cells = cells;
}

/// Takes memory and uses every page of it.
fn gorge(gorged: &mut Vec<u8>) {
    if gorged.is_empty() {
        *gorged = unwritten(GORGE);
        gorged.iter_mut().step_by(4096).for_each(|byte| *byte = 1);
    }
}

/// Uses so much fuel, about.
fn spend(fuel: u64) {
    (0..fuel / FUEL_PER_TURN).for_each(|turn| _ = black_box(turn));
}

/// What a turn of the loop in [`spend`] costs.
const FUEL_PER_TURN: u64 = 7;

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

fn last<T>(list: &mut [T]) -> &mut T {
    list.last_mut().expect("a batch has events")
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
#[allow(unsafe_code, clippy::uninit_vec)]
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
