//! How soon changes are there, and what others notice of them. Nothing else runs meanwhile.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::{APP, APP_PLUGINS, Client, Managed, OPERATOR, OTHER, SHOP, another, settings, wasm};
use crate::harness::{Site, access_log, beside};

/// From the upload of a plugin that was never compiled to its first event.
const LIVE: Duration = Duration::from_secs(2);
/// A lane's longest pause around a change.
const STALL: Duration = Duration::from_millis(50);
/// From a changed file to what it changes.
const APPLIED: Duration = Duration::from_secs(1);
/// What a flood of requests leaves of a lane's speed.
const LEFT: f64 = 0.95;

/// A file that grows, from where it was last read.
struct Tail {
    file: File,
}

impl Tail {
    /// What has come, as text.
    fn new_text(&mut self) -> String {
        let mut text = Vec::new();
        self.file.read_to_end(&mut text).unwrap();
        String::from_utf8_lossy(&text).into_owned()
    }
}

fn output(site: &Site, logstore: &str) -> File {
    File::open(site.path(format!("out/{logstore}.ndjson"))).unwrap()
}

fn median(mut durations: Vec<Duration>) -> Duration {
    durations.sort_unstable();
    durations[durations.len() / 2]
}

/// Writes a line to each of these files every millisecond.
fn trickle(files: &[(&Site, &str)], lines: &[&str], is_done: &AtomicBool) {
    let open = |(site, name): &(&Site, &str)| File::options().append(true).create(true).open(site.path(name)).unwrap();
    let mut files: Vec<_> = files.iter().map(open).collect();
    let (begun, mut written) = (Instant::now(), 0);
    while !is_done.load(Ordering::Relaxed) {
        if begun.elapsed() < Duration::from_millis(written) {
            thread::sleep(Duration::from_micros(200));
            continue;
        }
        let line = format!("{}\n", lines[written as usize % lines.len()]);
        files.iter_mut().for_each(|file| file.write_all(line.as_bytes()).unwrap());
        written += 1;
    }
}

#[test]
fn a_pushed_plugin_is_live_within_two_seconds() {
    let managed = Managed::new(Site::alone(), "- { name: shop/app, files: { root: logs }, sink: out }");
    let site = &managed.site;
    // Nothing is compiled already.
    fs::remove_dir_all(site.path("data/cache")).unwrap();
    let log = String::from_utf8(access_log(1000)).unwrap();
    let lines: Vec<_> = log.lines().collect();
    let mut agent = managed.start();
    let ((), times) = beside(
        |is_done| trickle(&[(site, "logs/app.log")], &lines, is_done),
        || {
            agent.wait_for_lines("shop/app", 100);
            let mut tail = Tail { file: output(site, "shop/app") };
            let push = |number| {
                let plugin = if number == 0 { wasm("nginx") } else { another(&wasm("nginx"), number) };
                tail.new_text();
                let begun = Instant::now();
                let pushed = managed.operator().push(APP_PLUGINS, &plugin, &serde_json::json!({ "format": "main" }));
                assert_eq!(pushed.status, 201, "{}", pushed.text());
                agent.wait("its first event", |_| tail.new_text().contains("\"remote_addr\""));
                let time = begun.elapsed();
                assert_eq!(managed.operator().ask("POST", &format!("{APP_PLUGINS}/0/activate")).status, 200);
                agent.wait("raw lines", |_| tail.new_text().contains("\"content\""));
                time
            };
            (0..3).map(push).collect::<Vec<_>>()
        },
    );
    agent.stop().assert_settled();
    println!("from the upload of a plugin to its first event: {times:?}");
    assert!(times.iter().min().unwrap() <= &LIVE, "{times:?}");
}

/// When something came out of a lane.
fn deliveries(site: &Site, logstore: &str, is_done: &AtomicBool) -> Vec<Instant> {
    let mut tail = Tail { file: output(site, logstore) };
    let mut times = Vec::new();
    while !is_done.load(Ordering::Relaxed) {
        if !tail.new_text().is_empty() {
            times.push(Instant::now());
        }
        thread::sleep(Duration::from_micros(500));
    }
    times
}

/// The longest pause between two deliveries, of those that were at some time of a window.
fn longest_pause(deliveries: &[Instant], window: &Range<Instant>) -> Duration {
    let pauses = deliveries.windows(2).filter(|pair| pair[1] > window.start && pair[0] < window.end);
    pauses.map(|pair| pair[1] - pair[0]).max().unwrap_or(Duration::MAX)
}

#[test]
fn an_activation_stalls_no_lane() {
    const CHANGES: usize = 21;
    const MORE: &str = "- { name: other/app, files: { root: logs, include: [other.log] }, sink: out }";
    let managed = Managed::new(Site::alone(), &format!("{APP}{MORE}"));
    let site = &managed.site;
    let mut agent = managed.start();
    let changes = || {
        let (mut windows, mut quiet) = (Vec::new(), Vec::new());
        for number in 0..CHANGES as u64 {
            // What is measured is what comes meanwhile, and for as long without any change.
            let begun = Instant::now();
            thread::sleep(Duration::from_millis(60));
            quiet.push(begun..Instant::now());
            let begun = Instant::now();
            // Each is one that was never compiled.
            let (plugin, settings) = (another(&wasm("delimiter"), number), settings(&format!("v{number}")));
            let pushed = managed.operator().push(APP_PLUGINS, &plugin, &settings);
            thread::sleep(Duration::from_millis(40));
            windows.push(begun..Instant::now());
            assert_eq!(pushed.status, 201, "{}", pushed.text());
        }
        (windows, quiet)
    };
    // What is shorter would be read together with what comes within a tenth of a second.
    let line = format!("1,{}", "x".repeat(4 << 10));
    let ((), (own, (other, (windows, quiet)))) = beside(
        |is_done| trickle(&[(site, "logs/app.log"), (site, "logs/other.log")], &[&line], is_done),
        || {
            agent.wait_for_lines("shop/app", 100);
            agent.wait_for_lines("other/app", 100);
            beside(
                |is_done| deliveries(site, "shop/app", is_done),
                || beside(|is_done| deliveries(site, "other/app", is_done), changes),
            )
        },
    );
    agent.stop().assert_settled();
    let pauses = |times: &[Instant], windows: &[Range<Instant>]| {
        windows.iter().map(|window| longest_pause(times, window)).collect::<Vec<_>>()
    };
    for (lane, times) in [("its own lane", own), ("another lane", other)] {
        let (calm, changed) = (pauses(&times, &quiet), pauses(&times, &windows));
        let (typical, longest) = (median(changed.clone()), changed.iter().max().unwrap());
        println!(
            "longest pause of {lane}: {typical:?} of {CHANGES} uploads in the middle, {longest:?} at most; without them \
             {:?} in the middle, {:?} at most",
            median(calm.clone()),
            calm.iter().max().unwrap()
        );
        // What the machine takes from all, it takes without changes too.
        let noise = calm.iter().max().unwrap().saturating_sub(median(calm.clone()));
        assert!(*longest <= STALL + noise, "{lane}: {changed:?}; without changes {calm:?}");
    }
}

#[test]
fn a_changed_configuration_is_applied_within_a_second() {
    let managed = Managed::new(Site::alone(), APP);
    let site = &managed.site;
    let mut agent = managed.start();
    let change = |number: usize| {
        let (name, log) = (format!("shop/more{number}"), format!("more{number}.log"));
        site.append(&format!("logs/{log}"), "1,x\n");
        let begun = Instant::now();
        managed.config(&format!("{APP}- {{ name: {name}, files: {{ root: logs, include: [{log}] }}, sink: out }}"));
        agent.wait_for_lines(&name, 1);
        begun.elapsed()
    };
    let times: Vec<_> = (0..5).map(change).collect();
    agent.stop().assert_settled();
    println!("from a changed file to the first line of a new logstore: {times:?}");
    assert!(median(times.clone()) <= APPLIED, "{times:?}");
}

/// Asks again and again over one connection, as fast as answers come.
fn flood(client: Client, paths: &[&str], is_done: &AtomicBool, answers: &AtomicU64) {
    // Whoever floods is elsewhere: here it must not take the CPU time that is measured.
    rustix::process::nice(19).unwrap();
    let mut buffer = vec![0; 64 << 10];
    while !is_done.load(Ordering::Relaxed) {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, client.port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        for path in paths.iter().cycle() {
            let head = format!("{}\r\n", client.head("GET", path));
            if is_done.load(Ordering::Relaxed) || stream.write_all(head.as_bytes()).is_err() {
                break;
            }
            // The body has its length before it, and all of it is taken.
            let (mut got, mut wanted) = (0, usize::MAX);
            while got < wanted {
                let Ok(len @ 1..) = stream.read(&mut buffer) else { break };
                if wanted == usize::MAX {
                    let head = String::from_utf8_lossy(&buffer[..len]).to_ascii_lowercase();
                    let end = head.find("\r\n\r\n").expect("a head is small") + 4;
                    let length = head.split("content-length: ").nth(1).expect("a length");
                    wanted = end + length.split("\r\n").next().unwrap().parse::<usize>().unwrap();
                }
                got += len;
            }
            if got < wanted {
                break;
            }
            answers.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[test]
fn a_flood_of_requests_does_not_slow_a_busy_lane_down() {
    const WINDOWS: usize = 15;
    const WINDOW: Duration = Duration::from_millis(250);
    const PATHS: [&str; 5] = ["/metrics", "/v1/status", "/healthz", "/v1/logstores/shop/app", "/nothing"];
    // Slow enough that its file is not read to the end meanwhile.
    let logstore = r"
- name: shop/app
  files: { root: logs }
  plugins:
  - { use: regex, settings: { pattern: '(?<content>\w.*\w)', unicode: true } }
  - { use: regex, settings: { pattern: '(?<content>\w.*\w)', unicode: true } }
  - { use: regex, settings: { pattern: '(?<content>\w.*\w)', unicode: true } }
  sink: out
";
    let site = Site::alone();
    site.write("logs/app.log", access_log(100_000).repeat(30));
    let managed = Managed::new(site, logstore);
    let agent = managed.start();
    // Nobody else has this token, so that it is never too often.
    let read = || {
        let status = managed.client(Some(SHOP)).get("/v1/logstores/shop/app");
        assert!(status["lag_bytes"].as_u64().unwrap() > 1 << 20, "the lane had too little to do");
        status["counts"]["bytes_read"].as_u64().unwrap()
    };
    let speed = || {
        let (begun, before) = (Instant::now(), read());
        thread::sleep(WINDOW);
        (read() - before) as f64 / begun.elapsed().as_secs_f64()
    };
    let middle = |mut speeds: Vec<f64>| {
        speeds.sort_by(f64::total_cmp);
        speeds[WINDOWS / 2]
    };
    let left = || {
        let (mut quiet, mut flooded, answers) = (Vec::new(), Vec::new(), AtomicU64::new(0));
        for _ in 0..WINDOWS {
            quiet.push(speed());
            let ((), under_flood) = beside(
                |is_done| {
                    thread::scope(|scope| {
                        for number in 0..8 {
                            let token = [Some(OPERATOR), Some(OTHER), None, Some("nobody")][number % 4];
                            let (client, answers) = (managed.client(token), &answers);
                            scope.spawn(move || flood(client, &PATHS, is_done, answers));
                        }
                    });
                },
                speed,
            );
            flooded.push(under_flood);
        }
        let a_second = answers.load(Ordering::Relaxed) as f64 / (WINDOW * WINDOWS as u32).as_secs_f64();
        let left = middle(flooded.clone()) / middle(quiet.clone());
        println!(
            "under {a_second:.0} requests a second a lane has {left:.3} of its speed: {flooded:.0?} of {quiet:.0?} B/s"
        );
        left
    };
    // What other machines take from this one they may take from the windows of the flood: not three times.
    let mut attempts: Vec<f64> = Vec::new();
    while attempts.len() < 3 && attempts.last().is_none_or(|left| *left < LEFT) {
        attempts.push(left());
    }
    agent.kill();
    assert!(attempts.iter().any(|left| *left >= LEFT), "{attempts:?} of its speed");
}
