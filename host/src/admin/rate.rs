//! How often whoever may call.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::access::Role;

/// Callers that are remembered; more share what is left.
const CALLERS: usize = 4096;

/// Whose requests count together.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Caller {
    /// Who has a token.
    Known(Role),
    /// Who has none, by address.
    Peer(IpAddr),
    /// All for whom there is no room.
    Crowd,
}

/// Requests a second, and how many more may come at once.
#[derive(Clone, Copy)]
struct Rate {
    a_second: f64,
    burst: f64,
}

impl Caller {
    /// Someone without a token. Of IPv6 a network is one.
    pub fn peer(address: IpAddr) -> Caller {
        Caller::Peer(match address.to_canonical() {
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                IpAddr::from([a, b, c, d, 0, 0, 0, 0])
            }
            address => address,
        })
    }

    fn rate(&self) -> Rate {
        match self {
            Caller::Known(Role::Operator) => Rate { a_second: 100.0, burst: 200.0 },
            Caller::Known(_) => Rate { a_second: 20.0, burst: 100.0 },
            Caller::Peer(_) => Rate { a_second: 20.0, burst: 40.0 },
            Caller::Crowd => Rate { a_second: 50.0, burst: 50.0 },
        }
    }
}

/// What each caller has left.
#[derive(Default)]
pub struct Rates {
    callers: Mutex<HashMap<Caller, Bucket>>,
}

struct Bucket {
    left: f64,
    at: Instant,
}

impl Bucket {
    fn refill(&mut self, rate: Rate, now: Instant) {
        let more = now.saturating_duration_since(self.at).as_secs_f64() * rate.a_second;
        (self.left, self.at) = ((self.left + more).min(rate.burst), now);
    }
}

impl Rates {
    /// Takes one request; or says how long to wait before the next.
    pub fn take(&self, caller: Caller, now: Instant) -> Result<(), Duration> {
        let mut callers = self.callers.lock().unwrap_or_else(PoisonError::into_inner);
        let caller = if callers.contains_key(&caller) || make_room(&mut callers, now) { caller } else { Caller::Crowd };
        let rate = caller.rate();
        let bucket = callers.entry(caller).or_insert(Bucket { left: rate.burst, at: now });
        bucket.refill(rate, now);
        if bucket.left < 1.0 {
            return Err(Duration::from_secs_f64((1.0 - bucket.left) / rate.a_second));
        }
        bucket.left -= 1.0;
        Ok(())
    }
}

/// Forgets those who have been quiet. Whether there is room for one more.
fn make_room(callers: &mut HashMap<Caller, Bucket>, now: Instant) -> bool {
    if callers.len() < CALLERS {
        return true;
    }
    callers.retain(|caller, bucket| {
        bucket.refill(caller.rate(), now);
        bucket.left < caller.rate().burst
    });
    callers.len() < CALLERS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(rates: &Rates, caller: &Caller, now: Instant) -> usize {
        (0..1000).take_while(|_| rates.take(caller.clone(), now).is_ok()).count()
    }

    #[test]
    fn each_caller_has_its_own_rate() {
        let (rates, now) = (Rates::default(), Instant::now());
        let [shop, other] = ["shop", "other"].map(|name| Caller::Known(Role::Project(name.into())));
        assert_eq!(taken(&rates, &shop, now), 100);
        assert_eq!(rates.take(shop.clone(), now), Err(Duration::from_millis(50)));
        assert_eq!(taken(&rates, &other, now), 100);
        assert_eq!(taken(&rates, &Caller::Known(Role::Operator), now), 200);
        assert_eq!(taken(&rates, &shop, now + Duration::from_secs(1)), 20);
        assert_eq!(taken(&rates, &shop, now + Duration::from_secs(3600)), 100);
        let peer = |address: &str| Caller::peer(address.parse().unwrap());
        assert_eq!(taken(&rates, &peer("10.0.0.1"), now), 40);
        assert_eq!(taken(&rates, &peer("::ffff:10.0.0.1"), now), 0);
        assert_eq!(taken(&rates, &peer("2001:db8::1"), now), 40);
        assert_eq!(taken(&rates, &peer("2001:db8::2:1"), now), 0);
        assert_eq!(taken(&rates, &peer("2001:db8:0:1::1"), now), 40);
    }

    #[test]
    fn a_crowd_shares_what_is_left_and_disturbs_nobody_who_is_known() {
        let (rates, now) = (Rates::default(), Instant::now());
        let shop = Caller::Known(Role::Project("shop".into()));
        assert_eq!(rates.take(shop.clone(), now), Ok(()));
        let peers = (0..10_000u32).map(|number| Caller::peer(IpAddr::from(number.to_be_bytes())));
        let passed = peers.filter(|peer| rates.take(peer.clone(), now).is_ok()).count();
        // One place is the crowd's.
        assert_eq!(passed, CALLERS - 1 + 50);
        assert!(rates.callers.lock().unwrap().len() <= CALLERS + 1);
        assert_eq!(taken(&rates, &shop, now), 99);
        // When they have been quiet, there is room again.
        let later = now + Duration::from_secs(60);
        assert_eq!(taken(&rates, &Caller::peer("192.0.2.1".parse().unwrap()), later), 40);
    }
}
