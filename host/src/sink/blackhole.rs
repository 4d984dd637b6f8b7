//! The destination that keeps nothing: to measure what comes before it.

use std::time::Duration;

use super::{Payload, Sender, Target};

/// Reports every payload as delivered at once.
pub struct Blackhole;

impl Sender for Blackhole {
    fn send(&self, _: &Target, payload: Payload) {
        payload.delivered();
    }

    fn close(&self, _: Duration) {}
}
