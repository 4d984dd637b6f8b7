//! For `cargo test`: feed lines or events to a plugin, natively, and read events back.
//!
//! What the plugin returns is held to the contract as the host does, so that a test fails where the host would.

mod files;
mod golden;
mod input;

#[cfg(not(target_family = "wasm"))]
pub(crate) use files::read_granted;
pub use files::with_files;
pub use golden::{golden, ndjson};
pub use input::TestInput;

use crate::Kind;
use crate::bindings::weir::plugin::event as wit;
use crate::event::{CELL, UNKNOWN_TIME};
use crate::guest::Runner;
use crate::plugin::BatchPlugin;

/// An event that came out.
#[derive(Clone, Debug, PartialEq)]
pub struct TestEvent {
    /// Name, kind and value of each cell; bytes that are not UTF-8 are replaced.
    pub cells: Vec<(String, Kind, String)>,
    /// Nanoseconds since the Unix epoch.
    pub time: Option<i64>,
    /// Why it was shipped unchanged, if it failed.
    pub error: Option<String>,
    /// The input events that it came from: the first, and the one after the last.
    pub origin: (usize, usize),
}

impl TestEvent {
    /// The value of the first cell of that field.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.cells.iter().find(|cell| cell.0 == name).map(|cell| cell.2.as_str())
    }

    /// Names and values of all cells.
    pub fn pairs(&self) -> Vec<(&str, &str)> {
        self.cells.iter().map(|(name, _, value)| (name.as_str(), value.as_str())).collect()
    }
}

/// What became of a batch.
#[derive(Clone, Debug, PartialEq)]
pub struct Processed {
    /// Kept and failed events, in the order in which the host ships them.
    pub events: Vec<TestEvent>,
    /// Input events that were dropped on purpose.
    pub dropped: usize,
    /// Input events at the end that are held.
    pub held: usize,
}

/// A plugin with its settings, to be given several batches.
pub struct Harness<P> {
    runner: Runner<P>,
    tags: Vec<(String, String)>,
}

impl<P: BatchPlugin> Harness<P> {
    /// Configures a plugin; `settings` is JSON. The error is what the settings' author is shown.
    pub fn new(settings: &str) -> Result<Self, String> {
        Ok(Harness { runner: Runner::new(settings)?, tags: Vec::new() })
    }

    /// Has batches from now on come from a source with these tags.
    pub fn tags(mut self, tags: &[(&str, &str)]) -> Self {
        self.tags = tags.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        self
    }

    /// Gives the plugin a batch of raw lines. Panics where the output breaks the contract.
    pub fn process<L: AsRef<[u8]>>(&mut self, lines: &[L], last: bool) -> Processed {
        let events: Vec<_> = lines.iter().map(|line| TestInput::line(line.as_ref())).collect();
        self.process_events(&events, last)
    }

    /// Gives the plugin a batch of events with these cells.
    pub fn process_cells(&mut self, events: &[Vec<(&str, Kind, &[u8])>], last: bool) -> Processed {
        let owned = |(name, kind, bytes): &(&str, Kind, &[u8])| ((*name).to_owned(), *kind, bytes.to_vec());
        let event = |cells: &Vec<_>| TestInput { cells: cells.iter().map(owned).collect(), time: None };
        self.process_events(&events.iter().map(event).collect::<Vec<_>>(), last)
    }

    /// Gives the plugin a batch of events. Panics where the output breaks the contract.
    pub fn process_events(&mut self, events: &[TestInput], last: bool) -> Processed {
        let mut input = batch(events);
        input.tags.clone_from(&self.tags);
        let output = self.runner.process(&input, last);
        read(&input, &output)
    }
}

/// Configures a plugin, gives it these lines as its last batch, and reads the events back.
pub fn run<P: BatchPlugin>(settings: &str, lines: &[impl AsRef<[u8]>]) -> Result<Vec<TestEvent>, String> {
    Ok(Harness::<P>::new(settings)?.process(lines, true).events)
}

fn batch(events: &[TestInput]) -> wit::Batch {
    let (mut data, mut fields, mut rows, mut cells) = (Vec::new(), Vec::<wit::Field>::new(), Vec::new(), Vec::new());
    for event in events {
        for (name, kind, bytes) in &event.cells {
            let known = fields.iter().position(|f| f.name == *name && f.kind == *kind);
            let field = known.unwrap_or_else(|| {
                fields.push(wit::Field { name: name.clone(), kind: *kind });
                fields.len() - 1
            });
            cells.extend([field as u32, data.len() as u32, (data.len() + bytes.len()) as u32]);
            data.extend_from_slice(bytes);
        }
        data.push(b'\n');
        rows.push((cells.len() / CELL) as u32);
    }
    let timed = events.iter().any(|event| event.time.is_some());
    let times = if timed { events.iter().map(|e| e.time.unwrap_or(UNKNOWN_TIME)).collect() } else { Vec::new() };
    wit::Batch { tags: Vec::new(), data, fields, rows, cells, times }
}

fn read(input: &wit::Batch, output: &wit::Output) -> Processed {
    let inputs = input.rows.len();
    let held = output.held as usize;
    assert!(held <= inputs, "{held} events are held, but there were {inputs}");
    let mut fates = vec!["dropped"; inputs - held];

    let mut events = Vec::new();
    for pair in output.failed.chunks_exact(2) {
        let (event, reason) = (pair[0] as usize, pair[1] as usize);
        assert!(fates[event] == "dropped", "event {event} fails twice");
        fates[event] = "failed";
        let mut failed = read_row(input, &[&input.data], &input.fields, &input.rows, &input.cells, event);
        failed.error = Some(output.reasons[reason].clone());
        failed.time = input.times.get(event).copied().filter(|t| *t != UNKNOWN_TIME);
        failed.origin = (event, event + 1);
        events.push(failed);
    }
    let one_to_one: Vec<u32> =
        (0..fates.len()).filter(|i| fates[*i] != "failed").flat_map(|i| [i as u32, i as u32 + 1]).collect();
    let short = output.origins.is_empty() && !output.rows.is_empty();
    let origins = if short { &one_to_one } else { &output.origins };
    assert_eq!(origins.len(), output.rows.len() * 2, "one origin, which is two numbers, for each event");
    assert!(output.times.is_empty() || output.times.len() == output.rows.len(), "no time, or one an event");
    for (row, origin) in origins.chunks_exact(2).enumerate() {
        let (first, end) = (origin[0] as usize, origin[1] as usize);
        assert!(first < end && end <= fates.len(), "origin {first}..{end} of event {row} is out of bounds");
        assert!(row == 0 || origins[row * 2 - 2] as usize <= first, "origins decrease at event {row}");
        for fate in &mut fates[first..end] {
            assert!(*fate != "failed", "event {row} comes from an event that failed");
            *fate = "kept";
        }
        let sources = [input.data.as_slice(), output.made.as_slice()];
        let mut kept = read_row(input, &sources, &output.fields, &output.rows, &output.cells, row);
        let time = output.times.get(row).or(input.times.get(first));
        kept.time = time.copied().filter(|t| *t != UNKNOWN_TIME);
        kept.origin = (first, end);
        events.push(kept);
    }
    events.sort_by_key(|event| event.origin.0);
    Processed { events, dropped: fates.iter().filter(|f| **f == "dropped").count(), held }
}

fn read_row(
    input: &wit::Batch,
    sources: &[&[u8]],
    fields: &[wit::Field],
    rows: &[u32],
    cells: &[u32],
    row: usize,
) -> TestEvent {
    let start = if row == 0 { 0 } else { rows[row - 1] as usize };
    let end = rows[row] as usize;
    assert!(start <= end && end * CELL <= cells.len(), "row {row} has the cells {start}..{end}, which are not there");
    let cells = cells[start * CELL..end * CELL].chunks_exact(CELL).map(|cell| {
        let field = &fields[cell[0] as usize];
        let (start, end) = (cell[1] as usize, cell[2] as usize);
        let bytes = if start >= input.data.len() && start < end {
            &sources[1][start - input.data.len()..end - input.data.len()]
        } else {
            &sources[0][start.min(input.data.len())..end.min(input.data.len())]
        };
        assert_eq!(bytes.len(), end - start, "a cell of row {row} leaves its bytes");
        (field.name.clone(), field.kind, String::from_utf8_lossy(bytes).into_owned())
    });
    TestEvent { cells: cells.collect(), time: None, error: None, origin: (row, row + 1) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prelude::*;

    /// Fails what begins with `!`, drops what begins with `-`, and passes the rest on in capitals.
    struct Picky(FieldId);

    impl Plugin for Picky {
        type Settings = NoSettings;

        fn new(_: NoSettings, fields: &mut Fields) -> Result<Self, String> {
            Ok(Picky(fields.add("loud", Kind::Text)))
        }

        fn event(&mut self, event: &Event, row: &mut Row) -> Result<Fate, Failure> {
            row.put(self.0, &event.content().to_ascii_uppercase());
            match event.content().first() {
                Some(b'!') => Err("shouting".into()),
                Some(b'-') => Ok(Drop),
                _ => Ok(Keep),
            }
        }
    }

    /// Joins pairs of lines; holds a single one.
    struct Pairs(FieldId);

    impl BatchPlugin for Pairs {
        type Settings = NoSettings;

        fn new(_: NoSettings, fields: &mut Fields) -> Result<Self, String> {
            Ok(Pairs(fields.add("pair", Kind::Text)))
        }

        fn batch(&mut self, input: &Batch, last: bool, out: &mut Out) {
            let pairs = input.len() / 2;
            for i in 0..pairs {
                let event = input.event(2 * i);
                out.row(&event).make(self.0, |made| {
                    made.extend_from_slice(event.content());
                    made.extend_from_slice(input.event(2 * i + 1).content());
                });
                out.keep(2 * i, 2 * i + 2);
            }
            match input.len() % 2 {
                1 if last => out.fail(input.len() - 1, "alone"),
                odd => out.hold(odd),
            }
        }
    }

    #[test]
    fn each_event_is_kept_failed_or_dropped_in_its_place() {
        let lines = ["a", "!b", "-c", "d", "!e", "-f"];
        let out = Harness::<Picky>::new("{}").unwrap().process(&lines, true);
        let got: Vec<_> = out.events.iter().map(|e| (e.cells[0].2.as_str(), e.error.as_deref(), e.origin.0)).collect();
        let shouting = Some("shouting");
        assert_eq!(got, [("A", None, 0), ("!b", shouting, 1), ("D", None, 3), ("!e", shouting, 4)]);
        assert_eq!((out.dropped, out.held), (2, 0));
    }

    #[test]
    fn drops_at_either_end_are_told_apart() {
        for (lines, kept, dropped) in [
            (&["-a", "b"][..], &[1][..], 1),
            (&["a", "-b"], &[0], 1),
            (&["-a"], &[], 1),
            (&[], &[], 0),
            (&["!a", "-b", "c"], &[0, 2], 1),
        ] {
            let out = Harness::<Picky>::new("{}").unwrap().process(lines, true);
            assert_eq!(out.events.iter().map(|e| e.origin.0).collect::<Vec<_>>(), kept, "{lines:?}");
            assert_eq!(out.dropped, dropped, "{lines:?}");
        }
    }

    #[test]
    fn a_batch_plugin_joins_and_holds() {
        let mut pairs = Harness::<Pairs>::new("{}").unwrap();
        let out = pairs.process(&["a", "b", "c"], false);
        assert_eq!((out.events[0].get("pair"), out.events[0].origin), (Some("ab"), (0, 2)));
        assert_eq!((out.events.len(), out.dropped, out.held), (1, 0, 1));
        let out = pairs.process(&["c"], true);
        assert_eq!((out.events[0].error.as_deref(), out.held), (Some("alone"), 0));
    }

    #[test]
    fn wrong_settings_are_refused_in_words() {
        #[derive(Deserialize, Settings)]
        #[serde(deny_unknown_fields)]
        struct Config {
            #[allow(dead_code)]
            level: u8,
        }
        struct Picks;
        impl Plugin for Picks {
            type Settings = Config;
            fn new(_: Config, _: &mut Fields) -> Result<Self, String> {
                Ok(Picks)
            }
            fn event(&mut self, _: &Event, _: &mut Row) -> Result<Fate, Failure> {
                Ok(Keep)
            }
        }
        let error = Harness::<Picks>::new("{\"levle\": 1}").err().unwrap();
        assert_eq!(error, "unknown field `levle`, expected `level`");
    }
}
