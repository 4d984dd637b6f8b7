//! From bytes to events: one module for each way in which a log marks where an event ends.

pub mod lines;
pub mod multiline;

use crate::event::Batch;

/// How a file's bytes become events.
#[derive(Clone, Debug)]
pub struct Framing {
    /// Bytes of an event; what is longer is split, and counted.
    pub max_event: usize,
    /// How lines are joined; each is an event if not.
    pub multiline: Option<multiline::Rule>,
}

/// What was made of the bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Framed {
    /// Bytes of the arena that events were made of, with their line ends.
    pub consumed: usize,
    /// Events that are pieces of something longer than allowed.
    pub split: u64,
}

impl Framing {
    /// Makes events of the batch's arena, which holds nothing else; `starts` gets where each begins. What may not be
    /// complete is left, unless `flush`.
    pub fn frame(&self, batch: &mut Batch, starts: &mut Vec<u32>, flush: bool) -> Framed {
        match &self.multiline {
            None => lines::frame(batch, starts, self.max_event, flush),
            Some(rule) => multiline::frame(rule, batch, starts, self.max_event, flush),
        }
    }
}

/// Where to cut an event that is too long: at most at `max`, and before a character of UTF-8 that would be cut.
fn cut(bytes: &[u8], max: usize) -> usize {
    let is_inside = |at: usize| bytes[at] & 0xc0 == 0x80;
    (max.saturating_sub(3)..=max).rev().find(|at| *at > 0 && !is_inside(*at)).unwrap_or(max)
}

/// The end of a line's content, before the CR of a CRLF.
#[inline]
fn without_cr(arena: &[u8], start: usize, newline: usize) -> usize {
    newline - usize::from(newline > start && arena[newline - 1] == b'\r')
}
