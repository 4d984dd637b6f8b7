//! What a lane is asked to do while it runs: looked at when its turn begins.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};

use super::Tap;
use super::glance::Asked;
use crate::event::Batch;
use crate::metrics::PluginAccounts;
use crate::sandbox::Chain;

/// Something that a lane is asked to do. Whoever asked is told by what is sent back; or by the sender's end, if the lane
/// ends before.
pub enum Order {
    /// Sends all batches from the next one on through another chain.
    Swap(NewChain, mpsc::Sender<()>),
    /// Sends those of a part of the files through another chain, beside the one that it has: so many percent of them, one
    /// file at least.
    Try(NewChain, u8, mpsc::Sender<()>),
    /// Ends that: all go through the other chain from now on, or none.
    EndTrial(Verdict, mpsc::Sender<()>),
    /// Shows events before and after the chain.
    Tap(Tap),
    /// Says how it is.
    Look(Asked),
    /// Reads nothing more, and ends when what is in flight is settled.
    Retire,
    /// Ends now; what is in flight stays unsettled.
    Abandon,
}

/// What becomes of a chain that was tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It takes the place of the other.
    Adopt,
    /// It goes.
    Dismiss,
}

/// A chain, and what each of its plugins counts, in order.
pub struct NewChain {
    /// The chain.
    pub chain: Chain,
    /// As many as it has stages.
    pub plugins: Vec<Arc<PluginAccounts>>,
}

/// Whether whoever looks on has not seen enough.
pub(super) fn is_open(tap: &mut Tap) -> bool {
    let nothing = Batch::default();
    tap(&nothing, &nothing)
}

/// Where orders wait until the lane's next turn.
pub struct Orders {
    are_there: AtomicBool,
    waiting: Mutex<Vec<Order>>,
    wake: Box<dyn Fn() + Send + Sync>,
}

impl Orders {
    /// None yet; `wake` is called when one comes.
    pub fn new(wake: Box<dyn Fn() + Send + Sync>) -> Arc<Self> {
        Arc::new(Orders { are_there: AtomicBool::new(false), waiting: Mutex::default(), wake })
    }

    /// Gives an order, to be obeyed when the lane has its next turn.
    pub fn give(&self, order: Order) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(order, Order::Tap(_)) {
            // A lane may have no turn for long, and those who look on come and go.
            waiting.retain_mut(|order| match order {
                Order::Tap(tap) => is_open(tap),
                _ => true,
            });
        }
        waiting.push(order);
        self.are_there.store(true, Ordering::Release);
        drop(waiting);
        (self.wake)();
    }

    /// Those that came since this was last asked.
    pub(super) fn take(&self) -> Vec<Order> {
        if !self.are_there.load(Ordering::Acquire) {
            return Vec::new();
        }
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        self.are_there.store(false, Ordering::Release);
        std::mem::take(&mut *waiting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_who_look_on_and_go_are_not_kept_for_a_lane_without_turns() {
        let orders = Orders::new(Box::new(|| {}));
        let is_open = Arc::new(AtomicBool::new(true));
        for number in 0..1000 {
            let is_open = is_open.clone();
            let tap: Tap = Box::new(move |_, _| number == 0 && is_open.load(Ordering::Relaxed));
            orders.give(Order::Tap(tap));
            orders.give(Order::Retire);
        }
        let count = |orders: &[Order]| orders.iter().filter(|order| matches!(order, Order::Tap(_))).count();
        let waiting = orders.take();
        // The one that is open, and the last to come, of which nothing is known yet.
        assert_eq!((count(&waiting), waiting.len()), (2, 1002));
    }
}
