//! A destination that is gone for a minute while much is written for it, with everything as it is by default: what that
//! costs, who notices, and how soon all is as before.

use std::fs;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::{Agent, Site, beside};
use crate::servers::{Counted, Server};

/// How long it is gone.
const OUTAGE: Duration = Duration::from_secs(60);

/// Lines that are written before, and then each second.
const BEFORE: u64 = 100_000;
const A_SECOND: u64 = 5_000;

/// The memory of the project that sends to it.
const BUDGET: u64 = 32 << 20;

/// A line of a neighbour is at its sink so soon, whatever becomes of others.
const SOON: Duration = Duration::from_secs(1);

/// The destination is asked again at least this often, and the first that is sent then comes at once.
const BACK: Duration = Duration::from_secs(7);

/// Lines of 200 bytes, each with its number.
fn lines(range: std::ops::Range<u64>) -> String {
    range.map(|number| format!("{number:08} {}\n", &"0123456789abcdef".repeat(12)[..190])).collect()
}

/// The neighbour's line of that number: how long it takes until it is at its sink.
fn neighbour(site: &Site, number: usize) -> Duration {
    let begun = Instant::now();
    site.append("logs/c.log", format!("{number}\n"));
    let last = format!("{{\"content\":\"{number}\"");
    while !fs::read_to_string(site.path("out/x/c.ndjson")).is_ok_and(|out| out.contains(&last)) {
        assert!(begun.elapsed() < 60 * SOON, "line {number} of the neighbour does not come");
        thread::sleep(Duration::from_millis(2));
    }
    begun.elapsed()
}

/// How long it takes until the server has so many lines, from now on.
fn arrive(server: &Server, counted: &mut Counted, agent: &Agent, count: u64) -> Duration {
    let begun = Instant::now();
    while server.count(counted) < count {
        assert!(begun.elapsed() < 2 * OUTAGE, "{count} lines do not arrive; it said:\n{}", agent.stderr());
        thread::sleep(Duration::from_millis(20));
    }
    begun.elapsed()
}

#[test]
fn a_minute_without_a_destination_costs_its_own_tenant_a_minute() {
    let mut server = Server::start("http", &[]);
    let site = Site::new();
    let logstores = "
- { name: a/b, files: { root: logs, include: [b.log] }, sink: far }
- { name: x/c, files: { root: logs, include: [c.log] }, sink: out }";
    let far = format!("  far: {{ type: http, url: \"http://127.0.0.1:{}/\", compression: zstd }}", server.port);
    let out = "  out: { type: file, path: \"out/{project}/{logstore}.ndjson\" }";
    site.config_with(
        &format!("{logstores}\nprojects: {{ a: {{ memory: {}MiB }} }}", BUDGET >> 20),
        &format!("{far}\n{out}"),
    );
    site.write("logs/b.log", lines(0..BEFORE));
    let agent = site.start();
    let mut counted = Counted::default();
    let before = arrive(&server, &mut counted, &agent, BEFORE);
    let memory = agent.memory();

    server.kill();
    let gone = Instant::now();
    let write = |is_done: &std::sync::atomic::AtomicBool| {
        let mut written = BEFORE;
        while !is_done.load(Ordering::Relaxed) {
            // What is due by now: a writer that is late catches up.
            let due = BEFORE + gone.elapsed().as_millis() as u64 * A_SECOND / 1000;
            site.append("logs/b.log", lines(written..due));
            written = due;
            thread::sleep(Duration::from_millis(100));
        }
        written
    };
    let (written, (delays, most)) = beside(write, || {
        let (mut delays, mut most) = (Vec::new(), 0);
        while gone.elapsed() < OUTAGE {
            delays.push(neighbour(&site, delays.len()));
            most = most.max(agent.memory());
        }
        (delays, most)
    });
    // A hundredth may be the machine's.
    let mut sorted = delays.clone();
    sorted.sort_unstable();
    assert!(sorted[sorted.len() * 99 / 100] < SOON, "{sorted:?}");
    assert!(most < memory + BUDGET, "{memory} bytes became {most}");

    server.restart();
    let had = server.count(&mut counted);
    let first = arrive(&server, &mut counted, &agent, had + 1);
    assert!(first < BACK, "the first after {first:?}");
    let rest = arrive(&server, &mut counted, &agent, written);
    let rate = (written - BEFORE) as f64 / rest.as_secs_f64();
    let rate_before = BEFORE as f64 / before.as_secs_f64();
    assert!(rate > rate_before / 2.0, "{rate:.0} lines a second, and {rate_before:.0} before");

    let ran = agent.stop();
    ran.assert_settled();
    ran.assert_counts("a/b", [written, written, 0, 0]);
    ran.assert_counts("x/c", [delays.len() as u64, delays.len() as u64, 0, 0]);
    // What was under way when it was killed may have come twice, and nothing else.
    let mut numbers: Vec<u64> = server.fields("content").iter().map(|line| line[..8].parse().unwrap()).collect();
    numbers.sort_unstable();
    numbers.dedup();
    assert!(numbers.iter().copied().eq(0..written));
    assert_eq!(server.errors(), "");
    println!(
        "{rate_before:.0} lines/s before, first after {first:.1?}, then {rate:.0} lines/s; {memory} to {most} bytes"
    );
}
