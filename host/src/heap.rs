//! What the allocator keeps of memory that it was given back.
//!
//! Instances of a thousand logstores leave holes of some 20 KiB each among what stays, which the allocator keeps for
//! whoever asks next. When logstores have come to rest, nobody will.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Something was let go since the last look.
static LET_GO: AtomicBool = AtomicBool::new(false);

/// Giving memory back looks through all of the heap, and whoever allocates waits meanwhile: it is done at most this often.
const EVERY: Duration = Duration::from_secs(10);

/// If ever more is let go, it is not waited for longer than this.
const AT_MOST: Duration = Duration::from_secs(30);

/// Says that memory was let go which nobody will need soon.
pub fn let_go() {
    LET_GO.store(true, Ordering::Relaxed);
}

/// When to give memory back to the system.
#[derive(Default)]
pub struct Trim {
    waits_since: Option<Instant>,
    last: Option<Instant>,
}

impl Trim {
    /// To be called about once a second: gives memory back if some was let go, and no more since the last call.
    pub fn tick(&mut self, now: Instant) {
        if self.is_due(LET_GO.swap(false, Ordering::Relaxed), now) {
            give_back();
        }
    }

    fn is_due(&mut self, has_news: bool, now: Instant) -> bool {
        if has_news {
            self.waits_since.get_or_insert(now);
        }
        let Some(since) = self.waits_since else { return false };
        let is_calm = !has_news || now - since >= AT_MOST;
        if !is_calm || self.last.is_some_and(|last| now - last < EVERY) {
            return false;
        }
        (self.waits_since, self.last) = (None, Some(now));
        true
    }
}

/// Gives whole pages of the heap that are free back to the system.
fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes the allocator's own locks, and touches nothing that is in use.
    #[allow(unsafe_code)]
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_given_back_when_no_more_is_let_go_but_not_too_often() {
        let (mut trim, begun) = (Trim::default(), Instant::now());
        let mut at = |second: u64, has_news| trim.is_due(has_news, begun + Duration::from_secs(second));
        assert!(!at(0, false) && !at(1, true) && !at(2, true) && at(3, false) && !at(4, false));
        assert!(!at(5, true) && !at(6, false) && !at(12, false) && at(13, false));
        assert!((20..50).all(|second| !at(second, true)) && at(50, true));
    }
}
