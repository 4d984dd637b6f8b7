//! What was measured, for a terminal.

use std::path::Path;

use super::measure::{Bench, Function, Unit, Usage};
use crate::cli::screen::{Cell, Look, Table, amount, size};
use crate::sandbox::profile::Profile;

/// The part of a limit from which on it is near.
const NEAR: f64 = 0.75;

/// Characters of a bar.
const BAR: usize = 20;

/// Tables of speed, size, limits, and where fuel goes.
pub fn text(benches: &[Bench], profile: Option<&Path>, colours: bool) -> String {
    let mut tables = vec![speed(benches), start(benches), limits(benches)];
    tables.extend(benches.iter().filter(|bench| !bench.functions.is_empty()).map(fuel));
    let mut text = tables.iter().map(|table| table.text(colours)).collect::<Vec<_>>().join("\n");
    if let Some(profile) = profile {
        text += &format!("\nall of it: {}\n", profile.display());
    }
    text
}

fn speed(benches: &[Bench]) -> Table {
    let mut table = Table::new(&[
        "PLUGIN",
        "CASE",
        ">MB/S",
        ">EVENTS/S",
        ">FUEL/BYTE",
        ">FUEL/EVENT",
        ">BYTES/EVENT",
        ">FAILED",
        ">DROPPED",
    ]);
    for bench in benches {
        for case in &bench.cases {
            let name = bench.name.as_str().into();
            let look = if case.fault.is_some() { Look::Bad } else { Look::Plain };
            let case_name = Cell::new(&case.case, look);
            if case.rounds > 0 {
                let per_event = |count: f64| amount(count / case.events.max(1) as f64);
                let percent = |count: u64| match 100.0 * count as f64 / case.events.max(1) as f64 {
                    0.0 => Cell::from("0"),
                    few if few < 0.5 => "<1%".into(),
                    some => format!("{some:.0}%").into(),
                };
                table.row(vec![
                    name,
                    case_name,
                    format!("{:.0}", case.megabytes_per_second).into(),
                    amount(case.events_per_second).into(),
                    amount(case.fuel_per_byte).into(),
                    amount(case.fuel_per_event.round()).into(),
                    per_event(case.bytes as f64).into(),
                    percent(case.failed),
                    percent(case.dropped),
                ]);
                continue;
            }
            table.row(vec![name, case_name, Cell::new("faults", Look::Bad)]);
        }
    }
    table
}

fn start(benches: &[Bench]) -> Table {
    let mut table = Table::new(&["PLUGIN", "VERSION", ">SIZE", ">COMPILES", ">LOADS", ">STARTS", ">MEMORY", "FILE"]);
    for bench in benches {
        let slowest = bench.cases.iter().map(|case| case.start_seconds).fold(0.0, f64::max);
        let memory = bench.cases.iter().map(|case| case.memory).max().unwrap_or(0);
        table.row(vec![
            bench.name.as_str().into(),
            bench.version.as_str().into(),
            size(bench.size).into(),
            seconds(bench.compile_seconds).into(),
            seconds(bench.load_seconds).into(),
            seconds(slowest).into(),
            size(memory).into(),
            bench.file.as_str().into(),
        ]);
    }
    table
}

/// Of one plugin all limits; of each of several that one which is nearest, and others that are near.
fn limits(benches: &[Bench]) -> Table {
    let mut table = Table::new(&["PLUGIN", "LIMIT", ">USED", ">OF", "", ">", "CASE"]);
    for bench in benches {
        let nearest = bench.limits.iter().map(Usage::share).fold(0.0, f64::max);
        let is_shown = |usage: &&Usage| benches.len() == 1 || usage.share() >= nearest || usage.share() >= NEAR;
        for usage in bench.limits.iter().filter(is_shown) {
            let look = if usage.share() >= NEAR { Look::Bad } else { Look::Plain };
            table.row(vec![
                bench.name.as_str().into(),
                Cell::new(usage.limit, look),
                quantity(usage.unit, usage.used).into(),
                quantity(usage.unit, usage.most).into(),
                Cell::new(bar(usage.share()), look),
                Cell::new(percent(usage.share()), look),
                usage.case.as_str().into(),
            ]);
        }
    }
    table
}

fn fuel(bench: &Bench) -> Table {
    let mut table = Table::new(&[">FUEL", ">WITH CALLEES", "FUNCTION"]);
    for Function { name, own, all } in &bench.functions {
        table.row(vec![percent(*own).into(), percent(*all).into(), name.as_str().into()]);
    }
    table
}

/// The functions that use most fuel.
pub fn functions(profile: &Profile, count: usize) -> Vec<Function> {
    let all_fuel = profile.fuel().max(1) as f64;
    let function = |(name, own, all): (String, u64, u64)| Function {
        name,
        own: own as f64 / all_fuel,
        all: all as f64 / all_fuel,
    };
    profile.functions().into_iter().filter(|(_, own, _)| *own > 0).take(count).map(function).collect()
}

fn quantity(unit: Unit, number: f64) -> String {
    match unit {
        Unit::Fuel => amount(number),
        Unit::Bytes => size(number as u64),
        Unit::Seconds => seconds(number),
    }
}

fn bar(share: f64) -> String {
    let full = (share.clamp(0.0, 1.0) * BAR as f64).round() as usize;
    "█".repeat(full) + &"░".repeat(BAR - full)
}

fn percent(share: f64) -> String {
    match 100.0 * share {
        percent if percent < 9.95 => format!("{percent:.1}%"),
        percent => format!("{percent:.0}%"),
    }
}

fn seconds(seconds: f64) -> String {
    match seconds {
        s if s < 0.001 => format!("{:.0}µs", s * 1e6),
        s if s < 1.0 => format!("{:.1}ms", s * 1e3),
        s => format!("{s:.1}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::plugin::bench::measure::Run;

    fn bench(name: &str, memory: f64) -> Bench {
        let usage = |limit, used| Usage { limit, used, most: 100.0, unit: Unit::Fuel, case: "main".to_owned() };
        Bench {
            name: name.to_owned(),
            version: "1.2.3".to_owned(),
            file: format!("{name}.wasm"),
            size: 2048,
            compile_seconds: 1.5,
            load_seconds: 0.0004,
            cases: vec![Run {
                case: "main".to_owned(),
                events: 10,
                bytes: 2000,
                dropped: 5,
                rounds: 1,
                ..Run::default()
            }],
            limits: vec![usage("fuel of a call", 20.0), usage("memory", memory)],
            functions: Vec::new(),
        }
    }

    #[test]
    fn a_limit_that_is_near_is_red() {
        let text = limits(&[bench("a", 75.0)]).text(true);
        assert!(text.contains("\x1b[31mmemory\x1b[0m"), "{text}");
        assert!(!text.contains("\x1b[31mfuel"), "{text}");
        assert!(text.contains("████░░░░░░░░░░░░░░░░"), "{text}");
        assert!(text.contains("75%"), "{text}");
    }

    #[test]
    fn of_several_plugins_the_nearest_limit_is_shown() {
        let text = limits(&[bench("a", 10.0), bench("b", 90.0)]).text(false);
        let shown: Vec<_> = text.lines().skip(1).map(|line| line.split("  ").take(2).collect::<Vec<_>>()).collect();
        assert_eq!(shown.len(), 2, "{text}");
        assert!(text.contains("a       fuel of a call") && text.contains("b       memory"), "{text}");
    }

    #[test]
    fn numbers_are_for_people() {
        assert_eq!([0.000_051, 0.0123, 2.0].map(seconds), ["51µs", "12.3ms", "2.0s"]);
        assert_eq!([0.006, 0.42, 1.0].map(percent), ["0.6%", "42%", "100%"]);
        let table = text(&[bench("a", 1.0)], None, false);
        assert!(table.contains("2.0KiB") && table.contains("50%"), "{table}");
    }
}
