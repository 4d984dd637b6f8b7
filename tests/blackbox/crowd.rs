//! A thousand logstores of a hundred projects, each with an instance of its plugin, in one agent. Nothing else runs
//! meanwhile.

use std::fmt::Write;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use crate::cost::{cpu_time_of, status};
use crate::harness::{Site, access_log};

const PROJECTS: usize = 100;
const LOGSTORES: usize = 10;

/// Bytes that a logstore may take in which nothing happens.
const IDLE: u64 = 20 << 10;

/// Lines of each logstore, how many of them before it is measured what the others cost, and the time between two.
const LINES: usize = 110;
const BEFORE: usize = 70;
const BETWEEN: Duration = Duration::from_millis(100);

/// Memory that is the agent's alone, in bytes.
fn own_memory(pid: u32) -> u64 {
    let maps = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let line = maps.lines().find_map(|line| line.strip_prefix("Anonymous:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() << 10
}

/// Memory of an agent with so many logstores whose files were read and are quiet since.
fn idle_memory(logstores: usize) -> u64 {
    let site = Site::alone();
    let names: Vec<_> =
        (0..logstores).map(|number| format!("p{}/s{}", number / LOGSTORES, number % LOGSTORES)).collect();
    let mut config = String::new();
    for name in &names {
        site.write(&format!("logs/{name}/a.log"), access_log(10));
        let plugin = "{ use: nginx, settings: { format: main } }";
        writeln!(config, "- {{ name: {name}, files: {{ root: logs/{name} }}, plugins: [{plugin}], sink: out }}")
            .unwrap();
    }
    site.config(&config);
    let mut agent = site.start();
    names.iter().for_each(|name| agent.wait_for_lines(name, 10));
    let (pid, most) = (agent.pid(), logstores as u64 * IDLE);
    // Instances are let go after ten seconds, and what was theirs some seconds later.
    agent.wait("rest", |_| !has_instances(pid));
    let (begun, mut least) = (Instant::now(), u64::MAX);
    while begun.elapsed() < Duration::from_secs(15) && least > most {
        least = least.min(own_memory(pid));
        thread::sleep(BETWEEN);
    }
    let ran = agent.stop();
    names.iter().for_each(|name| ran.assert_counts(name, [10, 10, 0, 0]));
    least
}

/// Whether there are guards of linear memories: mappings of gigabytes that nobody may touch.
fn has_instances(pid: u32) -> bool {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let size = |line: &str| {
        let (from, to) = line.split_once(' ')?.0.split_once('-')?;
        Some(u64::from_str_radix(to, 16).ok()? - u64::from_str_radix(from, 16).ok()?)
    };
    maps.lines().filter_map(size).any(|size| size > 1 << 30)
}

#[test]
fn an_idle_logstore_takes_20_kib() {
    let (some, many) = (idle_memory(100), idle_memory(1100));
    let each = many.saturating_sub(some) / 1000;
    eprintln!("{each} bytes for each idle logstore");
    assert!(each <= IDLE, "{each} bytes for each idle logstore");
}

#[test]
fn a_thousand_logstores_fit_into_one_process() {
    let site = Site::alone();
    let names: Vec<_> = (0..PROJECTS).flat_map(|p| (0..LOGSTORES).map(move |s| format!("p{p}/s{s}"))).collect();
    let logstore = |text: &mut String, name: &String| {
        let plugin = "{ use: nginx, settings: { format: main } }";
        writeln!(text, "- {{ name: {name}, files: {{ root: logs/{name} }}, plugins: [{plugin}], sink: out }}").unwrap();
    };
    let config = names.iter().fold(String::new(), |mut text, name| {
        logstore(&mut text, name);
        text
    });
    site.config(&config);
    names.iter().for_each(|name| site.write(&format!("logs/{name}/a.log"), ""));
    let lines = access_log(LINES as u64);
    let lines: Vec<_> = lines.split_inclusive(|byte| *byte == b'\n').collect();

    let mut agent = site.start();
    agent.wait_to_say("running");
    let (mut begun, mut before) = (Instant::now(), cpu_time_of(agent.pid()));
    for (number, line) in lines.iter().enumerate() {
        if number == BEFORE {
            (begun, before) = (Instant::now(), cpu_time_of(agent.pid()));
        }
        let round = Instant::now();
        names.iter().for_each(|name| site.append(&format!("logs/{name}/a.log"), line));
        // The rate is what is measured; nothing is waited for.
        thread::sleep(BETWEEN.saturating_sub(round.elapsed()));
    }
    let used = (cpu_time_of(agent.pid()) - before).as_secs_f64() / begun.elapsed().as_secs_f64();
    let resident = status(agent.pid(), "VmRSS");
    names.iter().for_each(|name| agent.wait_for_lines(name, LINES));
    let ran = agent.stop();
    for name in &names {
        ran.assert_counts(name, [LINES as u64, LINES as u64, 0, 0]);
        let sequence = |event: &serde_json::Value| {
            let (_, rest) = event["request_uri"].as_str()?.split_once("seq=")?;
            rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
        };
        let numbers: Vec<Option<usize>> = site.events(name).iter().map(sequence).collect();
        assert_eq!(numbers, (0..LINES).map(Some).collect::<Vec<_>>(), "{name}");
    }
    assert!(resident < 300 << 20, "{} MiB are resident", resident >> 20);
    // 10 to 16 % where this was written.
    assert!(used < 0.4, "{:.0} % of a core", used * 100.0);
    eprintln!("{} MiB, {:.1} % of a core", resident >> 20, used * 100.0);
}
