//! What became of the events of one file, counted before joining and splitting.

use std::iter::Peekable;

use super::{Batch, Origin};

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
    /// In nothing that is shipped or held: the host left them out, because a plugin faulted on them.
    pub faulted: u64,
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

    /// Counts what `batch` ships, given that every event before `settled` has been decided on. The host left out what
    /// came from `faulted`, which is in order.
    pub fn count(&mut self, batch: &Batch, settled: u64, faulted: &[Origin]) -> Tallied {
        self.count_each(batch, settled, faulted, &mut Vec::new())
    }

    /// The same, which also says of how many read events each event of the batch is the first to have a part. Says
    /// nothing if each is of one.
    pub fn count_each(&mut self, batch: &Batch, settled: u64, faulted: &[Origin], weights: &mut Vec<u32>) -> Tallied {
        let mut counted = Tallied::default();
        weights.clear();
        let mut faulted = faulted.iter().peekable();
        if batch.origins.is_empty() && batch.first == self.next && batch.marks.is_empty() {
            counted.shipped = batch.len() as u64;
            self.next += counted.shipped;
        } else {
            let mut marks = batch.marks.iter().map(|mark| mark.event as usize).peekable();
            for event in 0..batch.len() {
                let origin = batch.origin(event);
                counted.skip(self.next, origin.first, &mut faulted);
                let new = origin.end.saturating_sub(self.next.max(origin.first));
                counted.shipped += new;
                weights.push(new as u32);
                if marks.next_if_eq(&event).is_some() {
                    counted.kept_raw += new;
                }
                self.next = self.next.max(origin.end);
            }
        }
        if weights.iter().all(|weight| *weight == 1) {
            weights.clear();
        }
        counted.skip(self.next, settled, &mut faulted);
        self.next = self.next.max(settled);
        counted
    }
}

impl Tallied {
    /// Counts events that are in nothing that is shipped.
    fn skip<'a>(&mut self, mut next: u64, end: u64, faulted: &mut Peekable<impl Iterator<Item = &'a Origin>>) {
        while next < end {
            // What lies before was counted, or shipped with others.
            while faulted.next_if(|origin| origin.end <= next).is_some() {}
            let (first, last) =
                faulted.peek().map_or((end, end), |origin| (origin.first.min(end), origin.end.min(end)));
            self.dropped += first.saturating_sub(next);
            next = next.max(first);
            self.faulted += last - next;
            next = last;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Mark;
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
        let counted = tally.count(&batch(&[(1, 4), (4, 5), (4, 5), (5, 6)], &[3]), 7, &[]);
        assert_eq!(counted, Tallied { shipped: 5, kept_raw: 1, dropped: 2, faulted: 0 });
        // 7 comes out with 8; of an overlap each is counted once.
        let counted = tally.count(&batch(&[(7, 9), (8, 10)], &[]), 10, &[]);
        assert_eq!(counted, Tallied { shipped: 3, kept_raw: 0, dropped: 0, faulted: 0 });
    }

    #[test]
    fn one_to_one_is_the_short_way() {
        let mut tally = Tally::new(3);
        let plain = Batch { rows: vec![0; 4], first: 3, ..Batch::default() };
        assert_eq!(tally.count(&plain, 7, &[]), Tallied { shipped: 4, kept_raw: 0, dropped: 0, faulted: 0 });
        assert_eq!(tally, Tally::new(7));
    }

    #[test]
    fn what_the_host_left_out_is_not_what_a_plugin_dropped() {
        let left_out = |pairs: &[(u64, u64)]| -> Vec<_> {
            pairs.iter().map(|(first, end)| Origin { first: *first, end: *end }).collect()
        };
        // 0 and 4 are dropped, 1 and 2 left out by the host, 3 is shipped, and a part of 5, of which another was left out.
        let mut tally = Tally::new(0);
        let counted = tally.count(&batch(&[(3, 4), (5, 6)], &[]), 6, &left_out(&[(1, 2), (2, 3), (5, 6)]));
        assert_eq!(counted, Tallied { shipped: 2, kept_raw: 0, dropped: 2, faulted: 2 });
        let counted = tally.count(&batch(&[], &[]), 9, &left_out(&[(6, 8)]));
        assert_eq!(counted, Tallied { shipped: 0, kept_raw: 0, dropped: 1, faulted: 2 });
    }
}
