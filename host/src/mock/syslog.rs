//! The system's log, as syslog daemons write it to files.

use super::Lines;
use super::parts::{Rng, Stamp, address, fill, pool, put, sequence};

/// Lines of the traditional format: time without year or zone, host, program.
pub struct Syslog {
    time: Stamp,
    origins: Vec<String>,
    messages: Vec<String>,
}

impl Syslog {
    pub fn new(rng: &mut Rng) -> Self {
        Syslog {
            time: Stamp::new("%b %e %H:%M:%S"),
            origins: pool(256, rng, |rng| fill(rng.pick(&ORIGINS), rng)),
            messages: pool(512, rng, |rng| {
                let address = address(rng);
                fill(rng.pick(&MESSAGES), rng).replace('@', &address)
            }),
        }
    }
}

impl Lines for Syslog {
    fn event(&mut self, seq: u64, millis: i64, rng: &mut Rng, out: &mut Vec<u8>) {
        put(out, self.time.text(millis));
        put(out, rng.pick(&self.origins));
        sequence(out, seq);
        put(out, rng.pick(&self.messages));
        out.push(b'\n');
    }
}

const ORIGINS: [&str; 5] = [
    " node-# sshd[####]: ",
    " node-# systemd[1]: ",
    " node-# kernel: [####.######] ",
    " node-# cron[####]: ",
    " node-# dhclient[###]: ",
];

/// `@` stands for an address.
const MESSAGES: [&str; 6] = [
    " Accepted publickey for deploy from @ port 5#### ssh2",
    " Failed password for invalid user admin from @ port 4#### ssh2",
    " Started session-##.scope - Session ## of user deploy.",
    " eth0: link becomes ready, ###0 Mbit/s full duplex",
    " (root) CMD (test -x /usr/sbin/anacron || run-parts --report /etc/cron.hourly)",
    " DHCPACK of @ from @, bound for ##00 seconds",
];
