//! An event on which a plugin faults, for the plugin's author: which, what it looks like, and where it happened.

use std::fmt;

use super::guest::{harmless, readable};
use super::instance::Fault;
use crate::event::{Batch, CELL, CONTENT};

/// Bytes of an event, and of the name of a field, that are shown.
const SHOWN: usize = 200;
const NAME: usize = 64;

/// An event on which a plugin faults.
#[derive(Clone, Debug)]
pub struct Poison {
    /// Its number among those that were read, from 0.
    pub event: u64,
    /// The beginning of it, on one line, with nothing in it that a terminal would obey.
    pub line: String,
    /// What happened.
    pub fault: Fault,
}

impl Poison {
    /// An event of a batch.
    pub fn of(batch: &Batch, event: usize, fault: &Fault) -> Self {
        Poison { event: batch.origin(event).first, line: line(batch, event), fault: fault.clone() }
    }
}

/// On several lines: the fault, the event, and the stack, innermost first.
impl fmt::Display for Poison {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let (what, stack) = self.fault.parts();
        write!(f, "{what}\nat event {}: {}{}", self.event + 1, self.line, stack_text(stack))
    }
}

/// A line for each place of a stack, each with a line feed before it. What calls itself is told once.
pub fn stack_text(stack: &[String]) -> String {
    let mut text = String::new();
    for same in stack.chunk_by(|place, caller| place == caller) {
        let word = if text.is_empty() { "in" } else { "called by" };
        let often = if same.len() > 1 { format!(" ({} times)", same.len()) } else { String::new() };
        text += &format!("\n{word} {}{often}", same[0]);
    }
    text
}

/// A raw line as it is, other events by their fields.
fn line(batch: &Batch, event: usize) -> String {
    let cells = batch.event(event).chunks_exact(CELL);
    let parts = cells.map(|cell| (&*batch.fields[cell[0] as usize].name, cell[1] as usize..cell[2] as usize));
    let parts: Vec<_> = parts.filter_map(|(name, bytes)| Some((name, batch.arena.get(bytes)?))).collect();
    if let [(CONTENT, bytes)] = parts[..] {
        return if bytes.is_empty() { "(an empty line)".to_owned() } else { readable(bytes, SHOWN) };
    }
    let mut text = String::new();
    for (name, bytes) in parts {
        let left = SHOWN.saturating_sub(text.len());
        if left == 0 {
            text += " …";
            break;
        }
        let space = if text.is_empty() { "" } else { " " };
        text += &format!("{space}{}={}", harmless(name, NAME), readable(bytes, left));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::testing::raw;

    fn trapped(stack: &[&str]) -> Fault {
        let stack = stack.iter().map(|place| (*place).to_owned()).collect();
        Fault::Trapped { what: "panicked at src/lib.rs:3:5:\\nno".to_owned(), stack }
    }

    #[test]
    fn the_event_and_the_stack_are_told() {
        let poison = Poison::of(&raw(&["a", "b\x1b"], 7), 1, &trapped(&["own::parse", "own::event"]));
        assert_eq!(
            poison.to_string(),
            "trapped: panicked at src/lib.rs:3:5: no\nat event 9: b\\u{1b}\nin own::parse\ncalled by own::event"
        );
        let poison = Poison::of(&raw(&[""], 0), 0, &Fault::OutOfFuel { fuel: 7, stack: Vec::new() });
        assert_eq!(poison.to_string(), "out of fuel: it used all of 7\nat event 1: (an empty line)");
        let stack = ["a", "b", "b", "b", "a"].map(str::to_owned);
        assert_eq!(stack_text(&stack), "\nin a\ncalled by b (3 times)\ncalled by a");
    }

    #[test]
    fn fields_are_named_and_long_ones_cut() {
        let mut batch = raw(&["GET"], 0);
        batch.fields[0].name = "method".into();
        assert_eq!(line(&batch, 0), "method=GET");
        let long = "x".repeat(1000);
        assert_eq!(line(&raw(&[&long], 0), 0), format!("{}… (1000 bytes)", "x".repeat(200)));
    }
}
