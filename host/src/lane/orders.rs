//! What a lane is asked to do while it runs: looked at when its turn begins.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};

use super::Tap;
use super::glance::Glance;
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
    Look(mpsc::Sender<Glance>),
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
