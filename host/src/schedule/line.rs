//! A line in front of something that is used in turns: who will have used least for its weight goes first.
//!
//! *Will have used*, as whoever takes short turns need not wait for a round of all who take long ones: it is before them
//! until it has used as much as a turn of theirs. What a turn costs is known afterwards; the guess is what turns of the
//! member have cost of late, and only what they did cost is charged.

use std::collections::BTreeSet;

/// Parts of a nanosecond that are counted, so that dividing by a weight loses nothing that matters.
const SCALE: u128 = 1 << 20;

/// A turn costs so much at least, in nanoseconds. A member that seems to use nothing must not stay first for ever.
const LEAST: u64 = 1_000;

/// What a member may be behind the others after turns of its own, in nanoseconds of CPU time. It got less than its
/// weight because it had nothing else to run beside these turns, and may make up for some of that, but not for hours.
const CREDIT: u64 = 100_000_000;

/// Members that want a turn, and the present: what whoever was served last had used when its turn began.
#[derive(Default)]
pub struct Line {
    waiting: BTreeSet<Place>,
    present: u128,
    arrivals: u64,
}

/// Place in the line: what will have been used; of equals, who comes from rest goes before who had a turn; then by
/// arrival.
type Place = (u128, bool, u64, usize);

/// One that uses and waits.
pub struct Member {
    /// Its name in the line.
    number: usize,
    weight: u32,
    /// Nanoseconds for its weight, in parts of `SCALE`: 2^108 of them make a century of 10^10 cores.
    used: u128,
    /// Nanoseconds that its turns take of late.
    usual: u64,
    /// Turns that it has at this moment.
    turns: u32,
    comes_from_rest: bool,
    place: Option<Place>,
}

impl Member {
    /// One that has used nothing. Its weight is 1 at least.
    pub fn new(number: usize, weight: u32) -> Self {
        Member { number, weight: weight.max(1), used: 0, usual: 0, turns: 0, comes_from_rest: true, place: None }
    }

    fn weighted(&self, nanos: u64) -> u128 {
        u128::from(nanos) * SCALE / u128::from(self.weight)
    }

    /// What it will have used after its next turn, and those that it has now.
    fn will_have_used(&self) -> u128 {
        let turns = u64::from(self.turns) + 1;
        self.used.saturating_add(self.weighted(self.usual.min(CREDIT) * turns))
    }
}

impl Line {
    /// Who is first.
    pub fn first(&self) -> Option<usize> {
        self.waiting.first().map(|(.., number)| *number)
    }

    /// A member wants a turn.
    pub fn enter(&mut self, member: &mut Member) {
        if member.place.is_some() {
            return;
        }
        if member.turns > 0 {
            self.limit_credit(member);
        } else if member.used < self.present {
            // Rest earns no credit, and pays no debt.
            (member.used, member.comes_from_rest) = (self.present, true);
        }
        self.put(member);
    }

    /// A member has another weight from now on; what it has used, it has used for the one before.
    pub fn set_weight(&mut self, member: &mut Member, weight: u32) {
        member.weight = weight.max(1);
        if let Some(place) = member.place.take() {
            self.waiting.remove(&place);
            self.put(member);
        }
    }

    /// A member wants none any more.
    pub fn leave(&mut self, member: &mut Member) {
        if let Some(place) = member.place.take() {
            self.waiting.remove(&place);
        }
    }

    /// A member gets a turn. It may enter again meanwhile, for another one beside it.
    pub fn take(&mut self, member: &mut Member) {
        self.leave(member);
        self.present = self.present.max(member.used);
        (member.turns, member.comes_from_rest) = (member.turns + 1, false);
    }

    /// A turn is over and has cost so many nanoseconds. Whoever wants another one now has not rested.
    pub fn end(&mut self, member: &mut Member, nanos: u64, again: bool) {
        self.leave(member);
        member.used = member.used.saturating_add(member.weighted(nanos.max(LEAST)));
        member.usual = if member.usual == 0 { nanos } else { member.usual.midpoint(nanos) };
        member.turns -= 1;
        if again {
            self.limit_credit(member);
            self.put(member);
        }
    }

    fn limit_credit(&self, member: &mut Member) {
        member.used = member.used.max(self.present.saturating_sub(member.weighted(CREDIT)));
    }

    fn put(&mut self, member: &mut Member) {
        self.arrivals += 1;
        let place = (member.will_have_used(), !member.comes_from_rest, self.arrivals, member.number);
        self.waiting.insert(place);
        member.place = Some(place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    /// Takes the first one, and has it use so much.
    fn serve(line: &mut Line, members: &mut [Member], nanos: u64, again: bool) -> usize {
        let first = line.first().unwrap();
        line.take(&mut members[first]);
        line.end(&mut members[first], nanos, again);
        first
    }

    fn members(weights: &[u32]) -> Vec<Member> {
        weights.iter().enumerate().map(|(number, weight)| Member::new(number, *weight)).collect()
    }

    #[test]
    fn whoever_used_least_for_its_weight_goes_first() {
        let (mut line, mut members) = (Line::default(), members(&[1, 2]));
        members.iter_mut().for_each(|member| line.enter(member));
        let order: Vec<_> = (0..9).map(|_| serve(&mut line, &mut members, MS, true)).collect();
        assert_eq!(order, [0, 1, 1, 1, 0, 1, 1, 0, 1]);
    }

    #[test]
    fn a_weight_counts_from_when_it_is_set() {
        let (mut line, mut members) = (Line::default(), members(&[1, 1]));
        members.iter_mut().for_each(|member| line.enter(member));
        let order: Vec<_> = (0..20).map(|_| serve(&mut line, &mut members, MS, true)).collect();
        assert_eq!(order.iter().sum::<usize>(), 10);
        line.set_weight(&mut members[1], 3);
        let order: Vec<_> = (0..40).map(|_| serve(&mut line, &mut members, MS, true)).collect();
        assert_eq!(order.iter().sum::<usize>(), 30);
    }

    #[test]
    fn rest_earns_nothing_and_pays_nothing() {
        let (mut line, mut members) = (Line::default(), members(&[1, 1, 1]));
        line.enter(&mut members[0]);
        line.enter(&mut members[1]);
        assert_eq!(serve(&mut line, &mut members, 50 * MS, false), 0);
        assert_eq!((0..20).map(|_| serve(&mut line, &mut members, MS, true)).sum::<usize>(), 20);
        // It is back within the moment, and its debt is what it was.
        line.enter(&mut members[0]);
        // It has rested all the time, and goes first, but only for once.
        line.enter(&mut members[2]);
        assert_eq!(serve(&mut line, &mut members, MS, true), 2);
        let order: Vec<_> = (0..200).map(|_| serve(&mut line, &mut members, MS, true)).collect();
        // The others have gone from 20 ms to 99, as it is expected to take 50 again.
        assert_eq!(order.iter().position(|number| *number == 0), Some(2 * 79));
        assert_eq!(order[..2 * 79].iter().filter(|number| **number == 2).count(), 79);
    }

    #[test]
    fn what_seems_to_cost_nothing_is_charged_all_the_same() {
        let (mut line, mut members) = (Line::default(), members(&[1, 1]));
        members.iter_mut().for_each(|member| line.enter(member));
        let order: Vec<_> = (0..4).map(|_| serve(&mut line, &mut members, 0, true)).collect();
        assert_eq!(order, [0, 1, 0, 1]);
    }

    #[test]
    fn what_one_could_not_use_is_made_up_for_only_so_far() {
        let (mut line, mut members) = (Line::default(), members(&[1, 1]));
        members.iter_mut().for_each(|member| line.enter(member));
        line.take(&mut members[0]);
        // The other has another worker for itself.
        (0..1000).for_each(|_| assert_eq!(serve(&mut line, &mut members, MS, true), 1));
        line.end(&mut members[0], MS, true);
        let ahead = (0..1000).take_while(|_| serve(&mut line, &mut members, MS, true) == 0).count();
        // The credit, and one more for the turn of the other that was under way.
        assert_eq!(ahead, 101);
    }

    #[test]
    fn no_cost_is_too_large() {
        let (mut line, mut members) = (Line::default(), members(&[1, u32::MAX]));
        for _ in 0..1000 {
            members.iter_mut().for_each(|member| line.enter(member));
            serve(&mut line, &mut members, u64::MAX, false);
        }
    }
}
