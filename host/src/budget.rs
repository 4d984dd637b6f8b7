//! How much memory a project has, and who waits for it.
//!
//! Everything large that a logstore keeps is counted: linear memories of its plugins, payloads, buffers, what is held.
//! Linear memory is asked for before it is there; the rest is bounded by one turn and counted after it. Whoever gets
//! nothing calls on the project's other lanes to let go of what they can do without, and waits.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

type Wake = Box<dyn Fn() + Send + Sync>;

/// Bytes; the most that there can be stands for no limit.
struct Limit(AtomicUsize);

impl Default for Limit {
    fn default() -> Self {
        Limit(AtomicUsize::new(usize::MAX))
    }
}

/// The memory of one project, in bytes.
#[derive(Default)]
pub struct Budget {
    limit: Limit,
    used: AtomicUsize,
    /// Bytes of these that come back when a sink has taken them.
    on_their_way: AtomicUsize,
    /// Somebody waits for memory.
    is_short: AtomicBool,
    /// One lane may go on over the limit, so that the project never stands still.
    is_overdrawn: AtomicBool,
    lanes: Mutex<Vec<Wake>>,
}

/// Of what projects may use, this part is not for payloads: while a sink takes none, logstores with another sink need it.
const NOT_FOR_PAYLOADS: usize = 4;

impl Budget {
    /// So many bytes, or as many as there are.
    pub fn new(limit: Option<usize>) -> Arc<Self> {
        let budget = Arc::<Budget>::default();
        budget.set_limit(limit);
        budget
    }

    /// Bytes that the project may use; none: as many as there are.
    pub fn limit(&self) -> Option<usize> {
        Some(self.limit.0.load(Ordering::Relaxed)).filter(|limit| *limit < usize::MAX)
    }

    /// Bytes that it may use from now on.
    pub fn set_limit(&self, limit: Option<usize>) {
        self.limit.0.store(limit.unwrap_or(usize::MAX), Ordering::Relaxed);
        self.wake_all();
    }

    /// Bytes that it uses.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Whether it uses all that it may.
    pub fn is_full(&self) -> bool {
        self.limit().is_some_and(|limit| self.used() >= limit)
    }

    /// Whether payloads on their way have as much as they may.
    pub fn is_filled_by_payloads(&self) -> bool {
        let used = self.on_their_way.load(Ordering::Relaxed);
        self.limit().is_some_and(|limit| used >= limit - limit / NOT_FOR_PAYLOADS)
    }

    /// Whether some of it comes back by itself, however long a sink takes for that.
    pub fn is_awaited(&self) -> bool {
        self.on_their_way.load(Ordering::Relaxed) > 0
    }

    /// Names a lane that is to be woken when there is less memory than is wanted, or more than there was.
    pub fn join(&self, wake: Wake) {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner).push(wake);
    }

    /// Takes memory if there is as much.
    pub fn try_take(&self, bytes: usize) -> bool {
        let Some(limit) = self.limit() else {
            self.take(bytes);
            return true;
        };
        let more = |used: usize| used.checked_add(bytes).filter(|sum| *sum <= limit);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    /// Takes memory that is in use already.
    pub fn take(&self, bytes: usize) {
        self.used.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Gives memory back; whoever waits for some is woken.
    pub fn give(&self, bytes: usize) {
        if bytes > 0 {
            self.used.fetch_sub(bytes, Ordering::Relaxed);
            if self.is_short() {
                self.wake_all();
            }
        }
    }

    /// Says that somebody waits for memory, until [`Budget::has_enough`].
    pub fn runs_short(&self) {
        if !self.is_short.swap(true, Ordering::Relaxed) {
            self.wake_all();
        }
    }

    /// Whether somebody waits for memory: lanes let go of what they can do without.
    pub fn is_short(&self) -> bool {
        self.is_short.load(Ordering::Relaxed)
    }

    /// Says that whoever waited has what it needs.
    pub fn has_enough(&self) {
        if self.is_short() {
            self.is_short.store(false, Ordering::Relaxed);
        }
    }

    /// Asks for the right to go on over the limit, which one lane has at a time, until it ends it.
    pub fn overdraw(&self) -> bool {
        !self.is_overdrawn.swap(true, Ordering::Relaxed)
    }

    /// Gives that right back.
    pub fn end_overdraft(&self) {
        self.is_overdrawn.store(false, Ordering::Relaxed);
        self.wake_all();
    }

    fn wake_all(&self) {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner).iter().for_each(|wake| wake());
    }
}

/// A part of a budget that is given back when it is dropped.
pub struct Share {
    budget: Arc<Budget>,
    bytes: usize,
    on_their_way: usize,
}

impl Share {
    /// Nothing yet.
    pub fn new(budget: &Arc<Budget>) -> Self {
        Share { budget: budget.clone(), bytes: 0, on_their_way: 0 }
    }

    /// Bytes that it has.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes more, if there is as much.
    pub fn try_grow(&mut self, bytes: usize) -> bool {
        let is_there = self.budget.try_take(bytes);
        self.bytes += if is_there { bytes } else { 0 };
        is_there
    }

    /// Has that many bytes from now on, which are in use already; `on_their_way` of them come back from a sink.
    pub fn set(&mut self, bytes: usize, on_their_way: usize) {
        let total = &self.budget.on_their_way;
        // One that wraps around is taken off.
        total.fetch_add(on_their_way.wrapping_sub(self.on_their_way), Ordering::Relaxed);
        self.on_their_way = on_their_way;
        match bytes.checked_sub(self.bytes) {
            Some(more) => self.budget.take(more),
            None => self.budget.give(self.bytes - bytes),
        }
        self.bytes = bytes;
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.set(0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_comes_back_and_wakes_who_waits() {
        let budget = Budget::new(Some(100));
        let woken = Arc::new(AtomicUsize::new(0));
        let counter = woken.clone();
        budget.join(Box::new(move || _ = counter.fetch_add(1, Ordering::Relaxed)));
        let (mut one, mut other) = (Share::new(&budget), Share::new(&budget));
        assert!(one.try_grow(60) && !other.try_grow(41) && other.try_grow(40));
        assert_eq!((budget.used(), budget.is_full(), other.bytes()), (100, true, 40));
        one.set(50, 20);
        assert_eq!((budget.used(), woken.load(Ordering::Relaxed)), (90, 0));
        other.set(40, 30);
        one.set(50, 10);
        assert_eq!((budget.on_their_way.load(Ordering::Relaxed), budget.is_awaited()), (40, true));
        assert!(!budget.is_filled_by_payloads());
        other.set(40, 64);
        assert!(!budget.is_filled_by_payloads());
        other.set(40, 65);
        assert!(budget.is_filled_by_payloads());
        other.set(40, 30);
        budget.runs_short();
        budget.runs_short();
        assert_eq!(woken.load(Ordering::Relaxed), 1);
        drop(one);
        assert_eq!((budget.used(), woken.load(Ordering::Relaxed)), (40, 2));
        budget.has_enough();
        other.set(0, 0);
        assert!(!budget.is_awaited());
        assert_eq!((budget.used(), woken.load(Ordering::Relaxed)), (0, 2));
    }

    #[test]
    fn one_at_a_time_goes_over_the_limit() {
        let budget = Budget::new(Some(1));
        assert!(budget.overdraw() && !budget.overdraw());
        budget.end_overdraft();
        assert!(budget.overdraw());
    }

    #[test]
    fn without_a_limit_all_is_counted_and_nothing_refused() {
        let budget = Budget::new(None);
        assert!(budget.try_take(usize::MAX / 2) && !budget.is_full());
        assert_eq!(budget.used(), usize::MAX / 2);
    }
}
