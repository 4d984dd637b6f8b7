//! What commands show of an agent: tables, numbers for people, and nothing that a terminal would obey.

use std::io::{self, ErrorKind, IsTerminal, Write};
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;

/// Writes a line to standard output. If nobody reads that any more, what is being done is done to its end all the same; any
/// other error is what the command ends with: see [`lost`].
macro_rules! say {
    ($($what:tt)*) => { $crate::cli::screen::say_line(format_args!($($what)*)) };
}

/// Writes a line to standard error, if anybody reads it.
macro_rules! complain {
    ($($what:tt)*) => { _ = $crate::cli::screen::write_line(std::io::stderr().lock(), format_args!($($what)*)) };
}

/// Why a line could not be written to standard output.
static LOST: OnceLock<io::Error> = OnceLock::new();

/// Why a line of the output is missing, if one is.
pub fn lost() -> Option<&'static io::Error> {
    LOST.get()
}

pub fn say_line(what: std::fmt::Arguments) {
    match write_line(io::stdout().lock(), what) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => _ = LOST.set(error),
        _ => {}
    }
}

pub fn write_line(mut to: impl Write, what: std::fmt::Arguments) -> io::Result<()> {
    to.write_fmt(what)?;
    to.write_all(b"\n")?;
    to.flush()
}

/// Writes to standard output. Whoever reads it may have seen enough.
pub fn print(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}

/// JSON for people and programs. What controls a terminal is written as escapes.
pub fn print_json(value: &impl serde::Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value)?;
    let mut escaped = String::with_capacity(text.len() + 1);
    for c in text.chars() {
        match c {
            '\n' => escaped.push(c),
            c if c.is_control() => escaped += &format!("\\u{:04x}", u32::from(c)),
            c => escaped.push(c),
        }
    }
    escaped.push('\n');
    print(&escaped)
}

/// Text from elsewhere, with control characters escaped; it may have several lines.
pub fn harmless(text: &str) -> String {
    let escape = |c: char| match c {
        '\n' => c.to_string(),
        c if c.is_control() => c.escape_debug().to_string(),
        c => c.to_string(),
    };
    text.chars().map(escape).collect()
}

/// The same on one line.
pub fn on_one_line(text: &str) -> String {
    harmless(text).replace('\n', "\\n")
}

/// Whether standard output shows colours, and is to.
pub fn has_colours() -> bool {
    let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let is_dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
    io::stdout().is_terminal() && !is_set("NO_COLOR") && !is_dumb
}

/// A size: `0B`, `512B`, `1.4MiB`.
pub fn size(bytes: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let unit = (bytes.max(1).ilog2() / 10) as usize;
    if unit == 0 {
        return format!("{bytes}B");
    }
    format!("{:.1}{}", bytes as f64 / (1u64 << (10 * unit)) as f64, units[unit])
}

/// A number of things, or of them a second: `0`, `0.4`, `940`, `12.3k`, `4.1M`.
pub fn amount(number: f64) -> String {
    match number {
        n if n <= 0.0 || !n.is_finite() => "0".to_owned(),
        n if n < 9.95 && n.fract() != 0.0 => format!("{n:.1}"),
        n if n < 999.5 => format!("{n:.0}"),
        n if n < 999_950.0 => format!("{:.1}k", n / 1e3),
        n if n < 999_950_000.0 => format!("{:.1}M", n / 1e6),
        n if n < 999_950_000_000.0 => format!("{:.1}G", n / 1e9),
        n => format!("{:.1}T", n / 1e12),
    }
}

/// A time: `0s`, `0.3s`, `42s`, `5m 3s`, `2h 4m`, `3d 2h`.
pub fn duration(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 0.05 {
        return "0s".to_owned();
    }
    if seconds < 9.95 {
        return format!("{seconds:.1}s");
    }
    let whole = seconds.round() as u64;
    let (minutes, hours, days) = (whole / 60, whole / 3600, whole / 86_400);
    match whole {
        0..60 => format!("{whole}s"),
        60..3600 => format!("{minutes}m {}s", whole % 60),
        3600..86_400 => format!("{hours}h {}m", minutes % 60),
        _ => format!("{days}d {}h", hours % 24),
    }
}

/// CPU time of an event: `0.48µs`, `1.20ms`.
pub fn per_event(nanoseconds: f64) -> String {
    match nanoseconds {
        n if n < 1e6 => format!("{:.2}µs", n / 1e3),
        n => format!("{:.2}ms", n / 1e6),
    }
}

/// How long ago a moment is, in Unix seconds.
pub fn since(moment: u64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    duration(now.saturating_sub(moment) as f64)
}

/// The beginning of a digest, which tells it from others.
pub fn short(digest: &str) -> String {
    digest.chars().take(12).collect()
}

/// How a cell looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Look {
    #[default]
    Plain,
    Good,
    Warning,
    Bad,
    Head,
}

impl Look {
    fn escape(self) -> &'static str {
        match self {
            Look::Plain => "",
            Look::Good => "\x1b[32m",
            Look::Warning => "\x1b[33m",
            Look::Bad => "\x1b[31m",
            Look::Head => "\x1b[1m",
        }
    }
}

/// Text in the colour of its look.
pub fn coloured(text: &str, look: Look, colours: bool) -> String {
    match colours && look != Look::Plain {
        true => format!("{}{text}\x1b[0m", look.escape()),
        false => text.to_owned(),
    }
}

/// A cell of a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cell {
    /// On one line, with nothing in it that a terminal would obey.
    pub text: String,
    pub look: Look,
}

impl Cell {
    /// With a look.
    pub fn new(text: impl AsRef<str>, look: Look) -> Self {
        Cell { text: on_one_line(text.as_ref()), look }
    }
}

impl<T: AsRef<str>> From<T> for Cell {
    fn from(text: T) -> Self {
        Cell::new(text, Look::Plain)
    }
}

/// A table with two spaces between its columns.
pub struct Table {
    /// Titles. Those that begin with `>` are of columns of numbers, which end in line.
    head: Vec<&'static str>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// Without rows. A title that begins with `>` is that of a column of numbers.
    pub fn new(head: &[&'static str]) -> Self {
        Table { head: head.to_vec(), rows: Vec::new() }
    }

    /// Adds one.
    pub fn row(&mut self, cells: Vec<Cell>) {
        self.rows.push(cells);
    }

    /// All of it, with line ends. Nothing if there are no rows.
    pub fn text(&self, colours: bool) -> String {
        if self.rows.is_empty() {
            return String::new();
        }
        let title = |head: &&str| Cell::new(head.trim_start_matches('>'), Look::Head);
        let head: Vec<_> = self.head.iter().map(title).collect();
        let rows = || [&head].into_iter().chain(&self.rows);
        let width = |c: usize| rows().filter_map(|row| row.get(c)).map(|cell| cell.text.chars().count()).max();
        let widths: Vec<_> = (0..self.head.len()).map(|c| width(c).unwrap_or(0)).collect();
        let mut text = String::new();
        for row in rows() {
            let last = row.iter().rposition(|cell| !cell.text.is_empty()).unwrap_or(0);
            for (c, cell) in row.iter().enumerate().take(last + 1) {
                let gap = " ".repeat(widths[c] - cell.text.chars().count());
                let shown = coloured(&cell.text, cell.look, colours);
                let (before, after) = if self.head[c].starts_with('>') { (&*gap, "") } else { ("", &*gap) };
                let after = if c == last { "" } else { after };
                text += &format!("{}{before}{shown}{after}", if c == 0 { "" } else { "  " });
            }
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        assert_eq!(
            [0, 1, 1023, 1024, 1_500_000, u64::MAX].map(size),
            ["0B", "1B", "1023B", "1.0KiB", "1.4MiB", "16.0EiB"]
        );
        assert_eq!(
            [-1.0, 0.0, 0.44, 7.0, 42.4, 999.6, 12_345.0, 4.1e6, 5e9, 6e12, f64::NAN].map(amount),
            ["0", "0", "0.4", "7", "42", "1.0k", "12.3k", "4.1M", "5.0G", "6.0T", "0"]
        );
        assert_eq!(
            [0.0, 0.3, 42.0, 59.6, 303.0, 7440.0, 266_400.0].map(duration),
            ["0s", "0.3s", "42s", "1m 0s", "5m 3s", "2h 4m", "3d 2h"]
        );
        assert_eq!([480.0, 1_200_000.0].map(per_event), ["0.48µs", "1.20ms"]);
    }

    #[test]
    fn a_table_is_aligned_and_obeyed_by_no_terminal() {
        let mut table = Table::new(&["NAME", ">NUMBER", "WORDS"]);
        assert_eq!(table.text(false), "");
        table.row(vec!["a".into(), "7".into(), Cell::new("\x1b[2J\nend", Look::Bad)]);
        table.row(vec!["longer".into(), "1234567".into(), "".into()]);
        let plain = "NAME     NUMBER  WORDS\na             7  \\u{1b}[2J\\nend\nlonger  1234567\n";
        assert_eq!(table.text(false), plain);
        let coloured = table.text(true);
        assert!(coloured.contains("\x1b[31m\\u{1b}[2J\\nend\x1b[0m\n"), "{coloured:?}");
    }
}
