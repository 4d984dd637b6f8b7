//! Error logs as Apache 2.2 and 2.4 write them unless `ErrorLogFormat` says otherwise.
//!
//! ```text
//! [Wed Oct 11 14:32:52 2000] [error] [client 127.0.0.1] client denied by server configuration: /export
//! [Fri Sep 09 10:42:29.902022 2011] [core:error] [pid 35708:tid 4328636416] [client 72.15.99.187:4711] AH00128: …
//! ```

use weir_plugin::moment::Zone;
use weir_plugin::prelude::*;
use weir_plugin::scan::find;
use weir_plugin::time::{Cached, Format};

/// The parser, with its fields.
pub struct ErrorLog {
    zone: Zone,
    /// Of the time without the day of the week, with and without a fraction.
    times: [Cached; 2],
    time: FieldId,
    module: FieldId,
    level: FieldId,
    pid: FieldId,
    tid: FieldId,
    source: FieldId,
    cause: FieldId,
    client: FieldId,
    client_port: FieldId,
    code: FieldId,
    message: FieldId,
    referer: FieldId,
}

impl ErrorLog {
    pub fn new(zone: Zone, fields: &mut Fields) -> Self {
        let pattern = |pattern| Cached::new(Format::known(pattern));
        let mut text = |name| fields.add(name, Kind::Text);
        ErrorLog {
            zone,
            times: [pattern("%b %d %T %Y"), pattern("%b %d %T.%f %Y")],
            time: text("time_local"),
            module: text("module"),
            level: text("level"),
            tid: text("tid"),
            source: text("source"),
            cause: text("cause"),
            client: text("client_addr"),
            code: text("code"),
            message: text("message"),
            referer: text("http_referer"),
            pid: fields.add("pid", Kind::Integer),
            client_port: fields.add("client_port", Kind::Integer),
        }
    }

    /// Puts the values of the line that is `data[start..end]`.
    pub fn read(&mut self, data: &[u8], start: usize, end: usize, row: &mut Row) -> Result<(), &'static str> {
        let mut line = Line { data, at: start, end };
        let time = line.bracket().ok_or("no [time] at the line's start")?;
        if let Some(time) = self.read_time(time) {
            row.time(time);
        }
        row.put(self.time, time);
        let level = line.bracket().ok_or("no [level] after the time")?;
        match split(level, b':') {
            // `[-:error]` is written where no module has a part in it.
            Some((b"-", level)) => row.put(self.level, level),
            Some((module, level)) => {
                row.put(self.module, module);
                row.put(self.level, level);
            }
            None => row.put(self.level, level),
        }
        if let Some(process) = line.bracket_of(b"pid ") {
            match process.windows(5).position(|w| w == b":tid ") {
                Some(at) => {
                    row.put(self.pid, &process[..at]);
                    row.put(self.tid, &process[at + 5..]);
                }
                None => row.put(self.pid, process),
            }
        }
        if let Some(source) = line.source() {
            row.put(self.source, source);
        }
        if let Some(cause) = line.cause() {
            row.put(self.cause, cause);
        }
        if let Some(client) = line.bracket_of(b"client ") {
            self.put_client(client, row);
        }
        self.put_message(line.rest(), row);
        Ok(())
    }

    /// `Fri Sep 09 10:42:29.902022 2011`.
    fn read_time(&mut self, text: &[u8]) -> Option<i64> {
        let text = text.get(4..)?;
        let fraction = usize::from(text.contains(&b'.'));
        self.times[fraction].read(text).map(|time| self.zone.to_utc(time))
    }

    /// `10.0.0.1`, `10.0.0.1:4711` or `2001:db8::1:4711`: Apache 2.4 always writes the port, 2.2 never.
    fn put_client(&self, client: &[u8], row: &mut Row) {
        let colon =
            client.iter().rposition(|b| *b == b':').filter(|at| client[at + 1..].iter().all(u8::is_ascii_digit));
        // Without a port, an address of IPv6 ends in a colon and digits as well; then nothing says which it is.
        match colon.filter(|at| *at + 1 < client.len() && *at > 0 && client[at - 1] != b':') {
            Some(colon) => {
                row.put(self.client, &client[..colon]);
                row.put(self.client_port, &client[colon + 1..]);
            }
            None => row.put(self.client, client),
        }
    }

    /// `AH00128: File does not exist: /favicon.ico, referer: http://example.com/`.
    fn put_message(&self, mut message: &[u8], row: &mut Row) {
        if let Some((code, rest)) = code(message) {
            row.put(self.code, code);
            message = rest;
        }
        const REFERER: &[u8] = b", referer: ";
        let referer = message.windows(REFERER.len()).rposition(|w| w == REFERER);
        row.put(self.message, &message[..referer.unwrap_or(message.len())]);
        if let Some(at) = referer {
            row.put(self.referer, &message[at + REFERER.len()..]);
        }
    }
}

/// What Apache numbers its messages with, `AH` and five digits, and what follows.
fn code(message: &[u8]) -> Option<(&[u8], &[u8])> {
    let (code, rest) = split(message, b':')?;
    let is_code = code.len() == 7 && code.starts_with(b"AH") && code[2..].iter().all(u8::is_ascii_digit);
    is_code.then(|| (code, rest.strip_prefix(b" ").unwrap_or(rest)))
}

/// What stands before the first such byte, and what behind.
fn split(text: &[u8], byte: u8) -> Option<(&[u8], &[u8])> {
    let at = find(text, 0, text.len(), byte)?;
    Some((&text[..at], &text[at + 1..]))
}

/// A line, and where what is left of it begins.
struct Line<'d> {
    data: &'d [u8],
    at: usize,
    end: usize,
}

impl<'d> Line<'d> {
    fn rest(&self) -> &'d [u8] {
        &self.data[self.at..self.end]
    }

    /// Goes on behind so many bytes, and a space behind them.
    fn skip(&mut self, bytes: usize) {
        self.at += bytes;
        self.at += usize::from(self.rest().first() == Some(&b' '));
    }

    /// What stands between brackets here.
    fn bracket(&mut self) -> Option<&'d [u8]> {
        self.bracket_of(b"")
    }

    /// What stands between brackets here, behind this word.
    fn bracket_of(&mut self, word: &[u8]) -> Option<&'d [u8]> {
        let inside = self.rest().strip_prefix(b"[")?.strip_prefix(word)?;
        let (inside, _) = split(inside, b']')?;
        self.skip(inside.len() + word.len() + 2);
        Some(inside)
    }

    /// `mod_ssl.c(2123): `, which traces have.
    fn source(&mut self) -> Option<&'d [u8]> {
        let rest = self.rest();
        let end = rest.windows(2).position(|w| w == b"):")? + 1;
        let (file, number) = split(&rest[..end - 1], b'(')?;
        let is_source = file.ends_with(b".c") && !file.contains(&b' ') && number.iter().all(u8::is_ascii_digit);
        if !is_source {
            return None;
        }
        self.skip(end + 1);
        Some(&rest[..end])
    }

    /// `(13)Permission denied: `, what the system says of a call that failed.
    fn cause(&mut self) -> Option<&'d [u8]> {
        let rest = self.rest();
        let (number, words) = split(rest.strip_prefix(b"(")?, b')')?;
        let (words, _) = split(words, b':')?;
        if number.is_empty() || !number.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let end = number.len() + 2 + words.len();
        self.skip(end + 1);
        Some(&rest[..end])
    }
}
