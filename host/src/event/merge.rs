//! Putting events that did not go through a plugin back in their place among those that did.

use std::sync::Arc;

use super::{Batch, CELL, Mark, Origin, UNKNOWN_TIME};

/// An event of a plugin's input that goes on unchanged.
pub struct Aside {
    /// Its index in the input.
    pub event: u32,
    /// Why it was set aside.
    pub reason: Arc<str>,
}

/// What a plugin made of `input`, with the events that it did not make anything of in their places.
///
/// `places` has, for each event made, the index of the first input event that it came from, and may have more. It
/// never decreases, `asides` increase, and no place is that of an aside. `made`'s arena continues the input's.
pub fn merge(input: &Batch, made: Batch, places: &[u32], asides: &[Aside]) -> Batch {
    let fields_before = made.fields.len() as u32;
    let mut out = Batch { tags: made.tags.clone(), ..Batch::default() };
    out.fields = made.fields.clone();
    out.fields.extend(input.fields.iter().cloned());
    out.cells.reserve(made.cells.len() + asides.len() * CELL);
    out.rows.reserve(made.rows.len() + asides.len());

    let timed = !made.times.is_empty() || !input.times.is_empty();
    let end_row = |out: &mut Batch, time: i64, origin: Origin| {
        out.rows.push((out.cells.len() / CELL) as u32);
        out.origins.push(origin);
        if timed {
            out.times.push(time);
        }
    };
    let mut asides = asides.iter().peekable();
    let ends = places.iter().take(made.len()).chain([&u32::MAX]);
    for (event, place) in ends.enumerate() {
        while let Some(aside) = asides.next_if(|aside| aside.event < *place) {
            let index = aside.event as usize;
            for cell in input.event(index).chunks_exact(CELL) {
                out.cells.extend_from_slice(&[cell[0] + fields_before, cell[1], cell[2]]);
            }
            out.marks.push(Mark { event: out.rows.len() as u32, reason: aside.reason.clone() });
            end_row(&mut out, input.time(index), input.origin(index));
        }
        if event < made.len() {
            out.cells.extend_from_slice(made.event(event));
            let time = if made.times.is_empty() { UNKNOWN_TIME } else { made.times[event] };
            end_row(&mut out, time, made.origin(event));
        }
    }
    out.arena = made.arena;
    out
}

#[cfg(test)]
mod tests {
    use super::super::testing::{raw, text};
    use super::*;

    #[test]
    fn asides_come_back_in_their_places() {
        let input = raw(&["a", "b", "c", "d", "e"], 10);
        // The plugin kept b and d.
        let mut made = raw(&["B", "D"], 0);
        let at = input.arena.len() as u32;
        made.cells.chunks_exact_mut(CELL).for_each(|cell| {
            cell[1] += at;
            cell[2] += at;
        });
        made.arena.splice(0..0, input.arena.iter().copied());
        made.origins = vec![Origin { first: 11, end: 12 }, Origin { first: 13, end: 14 }];
        let asides: Vec<_> = [0, 2, 4].map(|event| Aside { event, reason: "no".into() }).into();
        let out = merge(&input, made, &[1, 3, 4], &asides);
        assert_eq!(text(&out), ["content=a !no", "content=B", "content=c !no", "content=D", "content=e !no"]);
        assert_eq!((0..5).map(|i| out.origin(i).first).collect::<Vec<_>>(), [10, 11, 12, 13, 14]);
    }
}
