//! A running logstore goes on with another chain: what is the same in both goes on as it is.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use super::lanes::{LOOK_EVERY, Running, RunningLane};
use super::plugins::Used;
use crate::lane::orders::{NewChain, Order};
use crate::metrics::PluginAccounts;
use crate::sandbox::Chain;

/// Has a lane go on with another chain. Gives where it says when it does.
pub(super) fn swap(running: &mut Running, name: &str, used: Vec<Used>, chain: Chain) -> Option<mpsc::Receiver<()>> {
    let change = running.next_change();
    let lane = running.lanes.get_mut(name)?;
    lane.plugins = plugins_of(lane, &used);
    (lane.used, lane.canary, lane.change) = (used, None, change);
    let (done, told) = mpsc::channel();
    lane.orders.give(Order::Swap(NewChain { chain, plugins: lane.plugins.clone() }, done));
    Some(told)
}

/// What the plugins of a new chain count: those that stay, with all before them, count on.
pub(super) fn plugins_of(lane: &RunningLane, used: &[Used]) -> Vec<Arc<PluginAccounts>> {
    let common = lane.used.iter().zip(used).take_while(|(before, now)| before.is_same(now)).count();
    (0..used.len()).map(|index| if index < common { lane.plugins[index].clone() } else { Default::default() }).collect()
}

/// Whether two chains have the same plugins, settings and files.
pub(super) fn is_same(used: &[Used], other: &[Used]) -> bool {
    used.len() == other.len() && used.iter().zip(other).all(|(used, other)| used.is_same(other))
}

/// Waits a moment for lanes to do what they were told, which those do later that have no turn, or wait for something.
/// Whether all have done it.
pub(super) fn wait_for(told: Vec<mpsc::Receiver<()>>, is_stopping: &AtomicBool) -> bool {
    let deadline = Instant::now() + Duration::from_secs(1);
    let is_done = |told: mpsc::Receiver<()>| {
        while !is_stopping.load(Ordering::Relaxed) {
            let left = deadline.saturating_duration_since(Instant::now());
            match told.recv_timeout(left.min(LOOK_EVERY)) {
                Ok(()) => return true,
                Err(mpsc::RecvTimeoutError::Timeout) if !left.is_zero() => {}
                Err(_) => return false,
            }
        }
        false
    };
    // Each is waited for, also behind one that is late.
    told.into_iter().map(is_done).filter(|is_done| !is_done).count() == 0
}
