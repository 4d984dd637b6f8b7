//! Patterns that can be matched by scanning, sixteen bytes at a time.
//!
//! Most patterns for log lines are a row of pieces from `^` on, each of which ends where the next one begins:
//! `\S+` before a space, `[^"]*` before a quote. There the first byte that is not in the class decides, and
//! nothing has to be tried again. Such a pattern becomes a list of steps that finds what any engine would.

use regex_syntax::hir::{Class, Hir, HirKind, Look, Repetition};
use weir_plugin::scan::{self, BLOCK};

/// A pattern as steps from the beginning of a line.
pub struct Plan {
    steps: Vec<Step>,
    /// Whether the line must end where the steps end.
    to_end: bool,
}

#[derive(Clone)]
enum Step {
    /// These bytes, at most a block: filled up with zeros, and which bits of them count.
    Bytes { bytes: u128, mask: u128, len: usize },
    /// As many bytes of a class as there are; their number must be in bounds.
    Run { class: Box<Bytes>, min: usize, max: usize },
    /// So many bytes of a class.
    Exactly { class: Box<Bytes>, count: usize },
    /// A group begins or ends: the slot that is told where.
    Mark(usize),
}

impl Plan {
    /// The plan of a pattern, if it has one.
    pub fn new(pattern: &Hir) -> Option<Plan> {
        let HirKind::Concat(parts) = pattern.kind() else { return None };
        let [start, parts @ ..] = parts.as_slice() else { return None };
        let (parts, to_end) = match parts {
            [parts @ .., end] if is_look(end, Look::End) => (parts, true),
            parts => (parts, false),
        };
        if !is_look(start, Look::Start) {
            return None;
        }
        let mut steps = Vec::new();
        for part in parts {
            add(part, &mut steps)?;
        }
        let decided = (0..steps.len()).all(|i| is_decided(&steps[i], &steps[i + 1..], to_end));
        decided.then_some(Plan { steps, to_end })
    }

    /// Whether `data[start..end]` matches; if so, `slots` has where groups begin and end, as indices of `data`.
    #[inline]
    pub fn matches(&self, data: &[u8], start: usize, end: usize, slots: &mut [usize]) -> bool {
        let mut at = start;
        for step in &self.steps {
            match step {
                Step::Mark(slot) => slots[*slot] = at,
                Step::Bytes { bytes, mask, len } => {
                    if at + len > end || (word(data, at) ^ bytes) & mask != 0 {
                        return false;
                    }
                    at += len;
                }
                Step::Run { class, min, max } => {
                    let stop = class.end_of_run(data, at, end);
                    if stop - at < *min || stop - at > *max {
                        return false;
                    }
                    at = stop;
                }
                Step::Exactly { class, count } => {
                    if at + count > end || !data[at..at + count].iter().all(|b| class.has(*b)) {
                        return false;
                    }
                    at += count;
                }
            }
        }
        !self.to_end || at == end
    }
}

/// The block at `at`, filled up with zeros beyond the data.
#[inline(always)]
fn word(data: &[u8], at: usize) -> u128 {
    match data.get(at..at + BLOCK) {
        Some(block) => u128::from_le_bytes(block.try_into().expect("a block has its length")),
        None => last_word(&data[at..]),
    }
}

#[cold]
fn last_word(rest: &[u8]) -> u128 {
    let mut block = [0; BLOCK];
    block[..rest.len()].copy_from_slice(rest);
    u128::from_le_bytes(block)
}

fn is_look(part: &Hir, look: Look) -> bool {
    matches!(part.kind(), HirKind::Look(l) if *l == look)
}

/// Adds the steps of a part; none if there is no such step.
fn add(part: &Hir, steps: &mut Vec<Step>) -> Option<()> {
    match part.kind() {
        HirKind::Empty => {}
        HirKind::Literal(literal) => steps.extend(literal.0.chunks(BLOCK).map(|bytes| Step::Bytes {
            bytes: last_word(bytes),
            mask: u128::MAX >> (8 * (BLOCK - bytes.len())),
            len: bytes.len(),
        })),
        HirKind::Class(_) => steps.push(Step::Exactly { class: class(part)?, count: 1 }),
        HirKind::Repetition(Repetition { min, max, greedy, sub }) => {
            let (class, min) = (class(sub)?, *min as usize);
            steps.push(match max.map(|max| max as usize) {
                Some(max) if max == min => Step::Exactly { class, count: min },
                _ if !greedy => return None,
                max => Step::Run { class, min, max: max.unwrap_or(usize::MAX) },
            });
        }
        HirKind::Capture(group) => {
            steps.push(Step::Mark(group.index as usize * 2));
            add(&group.sub, steps)?;
            steps.push(Step::Mark(group.index as usize * 2 + 1));
        }
        HirKind::Concat(parts) => parts.iter().try_for_each(|part| add(part, steps))?,
        HirKind::Look(_) | HirKind::Alternation(_) => return None,
    }
    Some(())
}

/// What the part matches, if that is always one byte.
fn class(part: &Hir) -> Option<Box<Bytes>> {
    let ranges: Vec<_> = match part.kind() {
        HirKind::Literal(literal) if literal.0.len() == 1 => vec![(literal.0[0], literal.0[0])],
        HirKind::Class(Class::Bytes(class)) => class.ranges().iter().map(|r| (r.start(), r.end())).collect(),
        HirKind::Class(Class::Unicode(class)) => {
            class.to_byte_class()?.ranges().iter().map(|r| (r.start(), r.end())).collect()
        }
        _ => return None,
    };
    Some(Box::new(Bytes::new(&ranges)))
}

/// Whether a step's end is where it must be: what follows cannot begin with a byte of the step's own run, so that
/// a shorter run matches nothing, and a run that is too long neither.
fn is_decided(step: &Step, following: &[Step], to_end: bool) -> bool {
    let Step::Run { class: own, max, .. } = step else { return true };
    for step in following {
        match step {
            Step::Mark(_) => {}
            Step::Bytes { bytes, .. } => return !own.has(*bytes as u8),
            Step::Exactly { count: 0, .. } => {}
            Step::Run { class, min: 0, .. } if own.is_disjoint(class) => {}
            Step::Run { class, .. } | Step::Exactly { class, .. } => return own.is_disjoint(class),
        }
    }
    to_end || *max == usize::MAX
}

/// A class of bytes.
#[derive(Clone)]
struct Bytes {
    /// Whether a byte is in it.
    table: [bool; 256],
    /// The bytes that are not in it.
    others: Ranges,
}

#[derive(Clone)]
enum Ranges {
    One([(u8, u8); 1]),
    Two([(u8, u8); 2]),
    /// The last is repeated where there are less.
    UpToFive([(u8, u8); 5]),
    More,
}

impl Bytes {
    fn new(ranges: &[(u8, u8)]) -> Self {
        let mut table = [false; 256];
        for (low, high) in ranges {
            table[*low as usize..=*high as usize].fill(true);
        }
        let mut others = Vec::<(u8, u8)>::new();
        for byte in (0..=255).filter(|byte| !table[*byte as usize]) {
            match others.last_mut() {
                Some((_, high)) if *high + 1 == byte => *high = byte,
                _ => others.push((byte, byte)),
            }
        }
        let others = match others.as_slice() {
            [one] => Ranges::One([*one]),
            [one, two] => Ranges::Two([*one, *two]),
            [.., last] if others.len() <= 5 => {
                Ranges::UpToFive(std::array::from_fn(|i| *others.get(i).unwrap_or(last)))
            }
            _ => Ranges::More,
        };
        Bytes { table, others }
    }

    fn has(&self, byte: u8) -> bool {
        self.table[byte as usize]
    }

    fn is_disjoint(&self, other: &Bytes) -> bool {
        (0..=255).all(|byte| !(self.has(byte) && other.has(byte)))
    }

    /// The first position from `at` on whose byte is not in the class.
    #[inline(always)]
    fn end_of_run(&self, data: &[u8], at: usize, end: usize) -> usize {
        let found = match &self.others {
            Ranges::One(ranges) => scan::find_in(data, at, end, ranges),
            Ranges::Two(ranges) => scan::find_in(data, at, end, ranges),
            Ranges::UpToFive(ranges) => scan::find_in(data, at, end, ranges),
            Ranges::More => data[at..end].iter().position(|b| !self.has(*b)).map(|i| at + i),
        };
        found.unwrap_or(end)
    }
}
