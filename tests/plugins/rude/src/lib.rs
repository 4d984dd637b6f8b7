//! A plugin of bad manners: it passes lines on as they are, but for the one thing that its mode is named for.
//!
//! `{"mode": "polite"}` does nothing wrong. The modes of `weir plugin test`'s manners break that one and no other.

// It says things, which only a host can hear.
#![cfg(target_family = "wasm")]

use weir_plugin::bindings::weir::plugin::log::{self, Level};
use weir_plugin::prelude::*;

#[derive(Deserialize, Settings)]
#[serde(deny_unknown_fields)]
struct Config {
    /// What it does wrong.
    #[serde(default)]
    mode: Mode,
}

#[derive(Clone, Copy, Default, Deserialize, PartialEq, Settings)]
#[serde(rename_all = "kebab-case")]
enum Mode {
    /// Nothing.
    #[default]
    Polite,
    // Each of the manners.
    Empty,
    Last,
    HoldLast,
    EmptyLine,
    HugeLine,
    InvalidUtf8,
    ZeroBytes,
    Split,
    Twice,
    Fresh,
    // What authors see.
    Refuse,
    Poison,
    Spin,
    Talk,
}

struct Rude {
    mode: Mode,
    content: FieldId,
    number: FieldId,
    /// Events since the file began, which nobody gave back.
    seen: usize,
    /// How often nothing followed.
    ended: usize,
}

impl BatchPlugin for Rude {
    type Settings = Config;

    fn new(config: Config, fields: &mut Fields) -> Result<Self, String> {
        if config.mode == Mode::Refuse {
            return Err("`mode`: \"refuse\" is not to my taste".to_owned());
        }
        let (content, number) = (fields.add("content", Kind::Text), fields.add("number", Kind::Integer));
        Ok(Rude { mode: config.mode, content, number, seen: 0, ended: 0 })
    }

    fn batch(&mut self, input: &Batch, last: bool, out: &mut Out) {
        match self.mode {
            Mode::Empty if !last => _ = input.event(0),
            Mode::Last if last => _ = input.event(input.len() - 1),
            Mode::Talk => talk(input),
            _ => {}
        }
        let kept = if self.mode == Mode::HoldLast { input.len().saturating_sub(1) } else { input.len() };
        for index in 0..kept {
            let event = input.event(index);
            look(self.mode, event.content());
            let mut row = out.row(&event);
            row.put(self.content, event.content());
            if let Some(number) = self.number(index) {
                row.make(self.number, |made| made.extend_from_slice(number.to_string().as_bytes()));
            }
            out.keep(index, index + 1);
        }
        out.hold(input.len() - kept);
        self.seen = if last { 0 } else { self.seen + input.len() };
        self.ended += usize::from(last);
    }
}

impl Rude {
    /// What it makes up of an event that is none of the event's.
    fn number(&self, index: usize) -> Option<usize> {
        match self.mode {
            Mode::Split => Some(index),
            Mode::Twice => Some(self.ended),
            Mode::Fresh => Some(self.seen + index),
            _ => None,
        }
    }
}

/// Its name is in stacks.
#[inline(never)]
fn look(mode: Mode, line: &[u8]) {
    match mode {
        Mode::EmptyLine => _ = line.first().expect("a line has bytes"),
        Mode::HugeLine => assert!(line.len() < 1 << 20, "a line is short"),
        Mode::InvalidUtf8 => _ = std::str::from_utf8(line).expect("a line is text"),
        Mode::ZeroBytes => assert!(!line.contains(&0), "a line has no zero bytes"),
        Mode::Poison => assert!(!line.starts_with(b"poison"), "swallowed poison"),
        Mode::Spin if line.starts_with(b"poison") => spin(),
        _ => {}
    }
}

#[inline(never)]
fn spin() {
    loop {
        std::hint::black_box(());
    }
}

fn talk(input: &Batch) {
    log::write(Level::Debug, "whispered");
    log::write(Level::Info, "said\nERROR forged\x1b[2J");
    log::write(Level::Warn, "warned");
    input.events().for_each(|_| log::write(Level::Error, "cried"));
}

weir_plugin::export!(Rude);
