//! What became of the events of one file, counted before joining and splitting.

use super::Batch;

/// Counts read events once each, whatever plugins joined, split or held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// All events before this one have been counted.
    next: u64,
}

/// Events, in what was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tallied {
    /// Part of some event that is shipped.
    pub shipped: u64,
    /// Those of the shipped that go out unchanged, marked with a reason.
    pub kept_raw: u64,
    /// In nothing that is shipped or held: a plugin left them out.
    pub dropped: u64,
}

impl Tally {
    /// Starts at the event of that number.
    pub fn new(first: u64) -> Self {
        Tally { next: first }
    }

    /// The first event that has not been counted.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Counts what `batch` ships, given that every event before `settled` has been decided on.
    pub fn count(&mut self, batch: &Batch, settled: u64) -> Tallied {
        let mut counted = Tallied::default();
        if batch.origins.is_empty() && batch.first == self.next && batch.marks.is_empty() {
            counted.shipped = batch.len() as u64;
            self.next += counted.shipped;
        } else {
            let mut marks = batch.marks.iter().map(|mark| mark.event as usize).peekable();
            for event in 0..batch.len() {
                let origin = batch.origin(event);
                let gap = origin.first.saturating_sub(self.next);
                let new = origin.end.saturating_sub(self.next.max(origin.first));
                counted.dropped += gap;
                counted.shipped += new;
                if marks.next_if_eq(&event).is_some() {
                    counted.kept_raw += new;
                }
                self.next = self.next.max(origin.end);
            }
        }
        counted.dropped += settled.saturating_sub(self.next);
        self.next = self.next.max(settled);
        counted
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Mark, Origin};
    use super::*;

    fn batch(origins: &[(u64, u64)], marks: &[u32]) -> Batch {
        let mut batch = Batch { rows: vec![0; origins.len()], ..Batch::default() };
        batch.origins = origins.iter().map(|(first, end)| Origin { first: *first, end: *end }).collect();
        batch.marks = marks.iter().map(|event| Mark { event: *event, reason: "no".into() }).collect();
        batch
    }

    #[test]
    fn joins_splits_and_drops_count_what_was_read() {
        let mut tally = Tally::new(0);
        // 0 is dropped, 1 to 3 joined, 4 split in two, 5 failed, 6 dropped, 7 held.
        let counted = tally.count(&batch(&[(1, 4), (4, 5), (4, 5), (5, 6)], &[3]), 7);
        assert_eq!(counted, Tallied { shipped: 5, kept_raw: 1, dropped: 2 });
        // 7 comes out with 8; of an overlap each is counted once.
        let counted = tally.count(&batch(&[(7, 9), (8, 10)], &[]), 10);
        assert_eq!(counted, Tallied { shipped: 3, kept_raw: 0, dropped: 0 });
    }

    #[test]
    fn one_to_one_is_the_short_way() {
        let mut tally = Tally::new(3);
        let plain = Batch { rows: vec![0; 4], first: 3, ..Batch::default() };
        assert_eq!(tally.count(&plain, 7), Tallied { shipped: 4, kept_raw: 0, dropped: 0 });
        assert_eq!(tally, Tally::new(7));
    }
}
