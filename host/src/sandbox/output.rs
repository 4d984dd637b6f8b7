//! Nothing that a plugin returns is used before it is checked here.

use std::fmt;

use crate::event::CELL;

/// How an output breaks the contract.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation(pub String);

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "its output breaks the contract: {}", self.0)
    }
}

impl std::error::Error for Violation {}

macro_rules! ensure {
    ($condition:expr, $($message:tt)*) => {
        if !$condition {
            return Err(Violation(format!($($message)*)));
        }
    };
}

/// The numbers of an output, and the sizes that they must keep to.
pub struct Numbers<'a> {
    /// Events of the input.
    pub inputs: usize,
    /// Bytes of the input's data.
    pub data: usize,
    /// Bytes made.
    pub made: usize,
    /// Of each field of the output, the bytes that its name takes where it is written.
    pub fields: &'a [u32],
    /// Reasons of the output.
    pub reasons: usize,
    /// For each event, the end of its run of cells.
    pub rows: &'a [u32],
    /// Three numbers a cell.
    pub cells: &'a [u32],
    /// None, or one an event.
    pub times: &'a [i64],
    /// None, or two numbers an event.
    pub origins: &'a [u32],
    /// Two numbers a failed event.
    pub failed: &'a [u32],
    /// Events at the end of the input.
    pub held: u32,
    /// Bytes that all cells together may stand for. Many may share bytes and names, and each is written by itself.
    pub most_bytes: usize,
}

/// What a cell takes at least, where it is written.
const CELL_BYTES: u64 = 32;

/// Checks every number against the contract.
pub fn check(n: &Numbers) -> Result<(), Violation> {
    check_rows(n)?;
    check_cells(n)?;
    let events = n.rows.len();
    ensure!(n.times.is_empty() || n.times.len() == events, "{} times for {events} events", n.times.len());
    ensure!(n.held as usize <= n.inputs, "{} events are held of {}", n.held, n.inputs);
    check_failed(n)?;
    check_origins(n)
}

fn check_rows(n: &Numbers) -> Result<(), Violation> {
    ensure!(n.cells.len().is_multiple_of(CELL), "{} numbers of cells, which is not three a cell", n.cells.len());
    let mut last = 0;
    for (event, end) in n.rows.iter().enumerate() {
        ensure!(*end >= last, "the row of event {event} ends at cell {end}, before it starts at {last}");
        last = *end;
    }
    ensure!(last as usize == n.cells.len() / CELL, "the rows end at cell {last} of {}", n.cells.len() / CELL);
    Ok(())
}

fn check_cells(n: &Numbers) -> Result<(), Violation> {
    let total = n.data + n.made;
    ensure!(u32::try_from(total).is_ok(), "{total} bytes, more than a cell can point into");
    let (fields, data, total) = (n.fields.len() as u32, n.data as u32, total as u32);
    let is_wrong = |cell: &[u32]| {
        let (field, start, end) = (cell[0], cell[1], cell[2]);
        (field >= fields) | (start > end) | (end > total) | ((start < data) & (end > data))
    };
    // One pass without a way out is several times faster than one that stops at the first wrong cell.
    if n.cells.chunks_exact(CELL).fold(false, |wrong, cell| wrong | is_wrong(cell)) {
        let at = n.cells.chunks_exact(CELL).position(is_wrong).unwrap_or_default();
        let cell = &n.cells[at * CELL..][..CELL];
        let event = n.rows.partition_point(|end| *end as usize <= at);
        ensure!(cell[0] < fields, "cell {at} (event {event}) is of field {}, and there are {fields} fields", cell[0]);
        ensure!(
            false,
            "cell {at} (event {event}) has the bytes {}..{}, and there are {data} of input and {} made",
            cell[1],
            cell[2],
            n.made
        );
    }
    let bytes: u64 = n.cells.chunks_exact(CELL).map(|cell| u64::from(cell[2] - cell[1])).sum();
    let (count, most) = ((n.cells.len() / CELL) as u64, n.most_bytes as u64);
    let longest = n.fields.iter().max().map_or(0, |longest| u64::from(*longest));
    if bytes + count * (longest + CELL_BYTES) > most {
        let names = n.cells.chunks_exact(CELL).map(|cell| u64::from(n.fields[cell[0] as usize]) + CELL_BYTES);
        let bytes = bytes + names.sum::<u64>();
        ensure!(bytes <= most, "the cells have {bytes} bytes together, with their names, and {most} are allowed");
    }
    Ok(())
}

fn check_failed(n: &Numbers) -> Result<(), Violation> {
    ensure!(n.failed.len().is_multiple_of(2), "{} numbers of failed events, which is not two an event", n.failed.len());
    let open = n.inputs - n.held as usize;
    let mut next = 0;
    for pair in n.failed.chunks_exact(2) {
        let (event, reason) = (pair[0], pair[1]);
        ensure!((event as usize) < open, "event {event} fails, and there are {open} that are not held");
        ensure!(event >= next, "event {event} fails out of order, or twice");
        ensure!((reason as usize) < n.reasons, "event {event} fails by reason {reason} of {}", n.reasons);
        next = event + 1;
    }
    Ok(())
}

fn check_origins(n: &Numbers) -> Result<(), Violation> {
    let (events, open) = (n.rows.len(), n.inputs - n.held as usize);
    if n.origins.is_empty() {
        let kept = open - n.failed.len() / 2;
        ensure!(
            events == 0 || events == kept,
            "{events} events without origins from {kept} that neither failed nor are held"
        );
        return Ok(());
    }
    ensure!(n.origins.len() == events * 2, "{} numbers of origins for {events} events", n.origins.len());
    let mut failed = n.failed.chunks_exact(2).map(|pair| pair[0]).peekable();
    let mut last = 0;
    for (event, origin) in n.origins.chunks_exact(2).enumerate() {
        let (first, end) = (origin[0], origin[1]);
        ensure!(
            first < end && end as usize <= open,
            "event {event} comes from {first}..{end} of {open} events that are not held"
        );
        ensure!(first >= last, "event {event} comes from {first}, before the one before it, from {last}");
        last = first;
        while failed.next_if(|f| *f < first).is_some() {}
        if let Some(f) = failed.peek() {
            ensure!(*f >= end, "event {event} comes from {first}..{end}, of which {f} failed");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two input events of five bytes each, two output events with a cell each, one byte made.
    fn good() -> Numbers<'static> {
        Numbers {
            inputs: 2,
            data: 10,
            made: 1,
            fields: &[4, 6],
            reasons: 1,
            rows: &[1, 2],
            cells: &[0, 0, 10, 1, 10, 11],
            times: &[],
            origins: &[0, 1, 1, 2],
            failed: &[],
            held: 0,
            most_bytes: 85,
        }
    }

    #[test]
    fn every_lie_is_named() {
        assert_eq!(check(&good()), Ok(()));
        let lies: [(Numbers, &str); 18] = [
            (
                Numbers { cells: &[0, 0, 10, 1, 0, 3], ..good() },
                "the cells have 87 bytes together, with their names, and 85 are allowed",
            ),
            (Numbers { cells: &[0, 0], ..good() }, "2 numbers of cells"),
            (Numbers { rows: &[2, 1], ..good() }, "the row of event 1 ends at cell 1, before it starts at 2"),
            (Numbers { rows: &[1, 3], ..good() }, "the rows end at cell 3 of 2"),
            (Numbers { rows: &[1, 1], ..good() }, "the rows end at cell 1 of 2"),
            (Numbers { cells: &[2, 0, 1, 1, 0, 1], ..good() }, "cell 0 (event 0) is of field 2, and there are 2"),
            (Numbers { cells: &[0, 0, 1, 1, 3, 2], ..good() }, "cell 1 (event 1) has the bytes 3..2"),
            (Numbers { cells: &[0, 0, 1, 1, 0, 12], ..good() }, "cell 1 (event 1) has the bytes 0..12"),
            (
                Numbers { cells: &[0, 9, 11, 1, 0, 1], ..good() },
                "cell 0 (event 0) has the bytes 9..11, and there are 10 of input and 1 made",
            ),
            (Numbers { cells: &[0, 0, u32::MAX, 1, 0, 1], ..good() }, "cell 0"),
            (Numbers { made: u32::MAX as usize, ..good() }, "4294967305 bytes"),
            (Numbers { times: &[1], ..good() }, "1 times for 2 events"),
            (Numbers { held: 3, ..good() }, "3 events are held of 2"),
            (Numbers { held: 1, ..good() }, "event 1 comes from 1..2 of 1 events"),
            (Numbers { origins: &[1, 2, 0, 1], ..good() }, "event 1 comes from 0, before"),
            (Numbers { origins: &[0, 0, 1, 2], ..good() }, "event 0 comes from 0..0"),
            (Numbers { origins: &[0, 1], ..good() }, "2 numbers of origins for 2 events"),
            (Numbers { failed: &[0, 0], ..good() }, "event 0 comes from 0..1, of which 0 failed"),
        ];
        for (lie, expected) in lies {
            let said = check(&lie).unwrap_err().0;
            assert!(said.starts_with(expected), "{said}");
        }
    }

    #[test]
    fn failed_events_are_checked() {
        let two = Numbers { rows: &[], cells: &[], origins: &[], ..good() };
        assert_eq!(check(&Numbers { failed: &[0, 0, 1, 0], ..two }), Ok(()));
        for (failed, expected) in [
            (&[1, 0, 0, 0][..], "event 0 fails out of order"),
            (&[0, 0, 0, 0], "event 0 fails out of order, or twice"),
            (&[2, 0], "event 2 fails, and there are 2"),
            (&[0, 1], "event 0 fails by reason 1 of 1"),
            (&[0], "1 numbers of failed"),
        ] {
            let two = Numbers { rows: &[], cells: &[], origins: &[], ..good() };
            let said = check(&Numbers { failed, ..two }).unwrap_err().0;
            assert!(said.starts_with(expected), "{said}");
        }
        let three = Numbers { rows: &[1, 2], origins: &[], failed: &[0, 0], ..good() };
        assert_eq!(check(&three).unwrap_err().0, "2 events without origins from 1 that neither failed nor are held");
    }
}
