//! Lines that are joined: stack traces and the like. As the agent's own `multiline`, for lines that another plugin had
//! to take apart first.
//!
//! What is not complete is held, so that it comes again with what follows.

use weir_plugin::prelude::*;
use weir_plugin_regex::Search;

weir_plugin::export!(Multiline, name = "multiline");

/// What the plugin's user may set.
#[derive(Deserialize, Settings)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// An event begins with a line that matches, and goes on until the next such line.
    start: Option<String>,
    /// With start: an event goes on only with lines that match this. Alone: lines that match belong to the event before.
    #[serde(rename = "continue")]
    goes_on: Option<String>,
    /// An event ends with a line that matches.
    end: Option<String>,
    /// The field that has the line.
    field: String,
    /// Lines of an event; what is longer is split.
    max_lines: usize,
    /// Bytes of an event; what is longer is split between two lines.
    max_bytes: usize,
}

impl Default for Config {
    fn default() -> Self {
        let field = "content".to_owned();
        Config { start: None, goes_on: None, end: None, field, max_lines: 1000, max_bytes: 256 << 10 }
    }
}

/// Bytes that may be joined: the host holds 4 MiB at most.
const MOST_BYTES: usize = 2 << 20;

/// The plugin.
pub struct Multiline {
    rule: Rule,
    field: String,
    max_lines: usize,
    max_bytes: usize,
    /// The field that joined lines are put as.
    joined: FieldId,
}

enum Rule {
    Start(Search),
    StartContinue(Search, Search),
    Continue(Search),
    End(Search),
}

/// What a line is to the event before it.
struct Verdict {
    /// It does not belong to the event before it.
    begins: bool,
    /// Nothing after it belongs to its event.
    ends: bool,
}

/// An event that may go on.
struct Open {
    first: usize,
    lines: usize,
    bytes: usize,
}

impl BatchPlugin for Multiline {
    type Settings = Config;

    fn new(config: Config, fields: &mut Fields) -> Result<Self, String> {
        Fields::check(&config.field)?;
        if config.max_lines == 0 {
            return Err("max_lines must be at least 1".to_owned());
        }
        if !(1..=MOST_BYTES).contains(&config.max_bytes) {
            return Err(format!("max_bytes must be from 1 to {MOST_BYTES}"));
        }
        let joined = fields.add(&config.field, Kind::Text);
        let Config { field, max_lines, max_bytes, .. } = config;
        let rule = Rule::new(config.start, config.goes_on, config.end)?;
        Ok(Multiline { rule, field, max_lines, max_bytes, joined })
    }

    fn batch(&mut self, input: &Batch, last: bool, out: &mut Out) {
        let mut open: Option<Open> = None;
        for i in 0..input.len() {
            let event = input.event(i);
            let Some(line) = event.get(&self.field) else {
                self.close(open.take(), i, input, out);
                out.row(&event).pass_all(&event);
                out.keep(i, i + 1);
                continue;
            };
            let verdict = self.rule.judge(line);
            let fits = |open: &Open| open.lines < self.max_lines && open.bytes + 1 + line.len() <= self.max_bytes;
            open = match open {
                Some(open) if !verdict.begins && fits(&open) => {
                    Some(Open { first: open.first, lines: open.lines + 1, bytes: open.bytes + 1 + line.len() })
                }
                open => {
                    self.close(open, i, input, out);
                    Some(Open { first: i, lines: 1, bytes: line.len() })
                }
            };
            if verdict.ends {
                self.close(open.take(), i + 1, input, out);
            }
        }
        match open {
            Some(open) if !last && open.lines < self.max_lines && open.bytes < self.max_bytes => {
                out.hold(input.len() - open.first);
            }
            open => self.close(open, input.len(), input, out),
        }
    }
}

impl Multiline {
    /// Makes an event of the open lines, which end before `end`.
    fn close(&self, open: Option<Open>, end: usize, input: &Batch, out: &mut Out) {
        let Some(Open { first, .. }) = open else { return };
        let event = input.event(first);
        let mut row = out.row(&event);
        if end == first + 1 {
            row.pass_all(&event);
        } else {
            let mut is_joined = false;
            for cell in event.cells() {
                if is_joined || cell.name != self.field {
                    row.pass(&cell);
                    continue;
                }
                is_joined = true;
                match self.as_one(input, first, end) {
                    Some((start, end)) => row.span(self.joined, start, end),
                    None => row.make(self.joined, |made| {
                        for i in first..end {
                            made.extend_from_slice(input.event(i).get(&self.field).unwrap_or_default());
                            made.push(b'\n');
                        }
                        made.pop();
                    }),
                }
            }
        }
        out.keep(first, end);
    }

    /// Where the lines are, if they lie one behind the other as in a file, so that nothing has to be copied.
    fn as_one(&self, input: &Batch, first: usize, end: usize) -> Option<(usize, usize)> {
        let data = input.data();
        let span = |i: usize| {
            let line = input.event(i).get(&self.field)?;
            let start = line.as_ptr() as usize - data.as_ptr() as usize;
            Some((start, start + line.len()))
        };
        let (start, mut at) = span(first)?;
        for i in first + 1..end {
            let (next, next_end) = span(i)?;
            if next != at + 1 || data[at] != b'\n' {
                return None;
            }
            at = next_end;
        }
        Some((start, at))
    }
}

impl Rule {
    fn new(start: Option<String>, goes_on: Option<String>, end: Option<String>) -> Result<Self, String> {
        let search = |name: &str, pattern: String| Search::new(&pattern, false).map_err(|e| format!("{name}: {e}"));
        Ok(match (start, goes_on, end) {
            (Some(start), None, None) => Rule::Start(search("start", start)?),
            (Some(start), Some(more), None) => Rule::StartContinue(search("start", start)?, search("continue", more)?),
            (None, Some(more), None) => Rule::Continue(search("continue", more)?),
            (None, None, Some(end)) => Rule::End(search("end", end)?),
            _ => return Err("give start, start and continue, continue, or end".to_owned()),
        })
    }

    fn judge(&mut self, line: &[u8]) -> Verdict {
        match self {
            Rule::Start(start) => Verdict { begins: start.is_in(line), ends: false },
            Rule::Continue(more) => Verdict { begins: !more.is_in(line), ends: false },
            Rule::End(end) => Verdict { begins: false, ends: end.is_in(line) },
            Rule::StartContinue(start, more) => {
                let starts = start.is_in(line);
                let goes_on = !starts && more.is_in(line);
                Verdict { begins: !goes_on, ends: !starts && !goes_on }
            }
        }
    }
}

#[cfg(test)]
mod tests;
