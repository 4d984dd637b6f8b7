//! What the agent costs when nothing happens, and how soon it is there. Nothing else runs meanwhile.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::{Agent, Site, access_log};

const NGINX: &str =
    "- name: a/b\n  files: { root: logs }\n  plugins: [{ use: nginx, settings: { format: main } }]\n  sink: ";

/// A number of `/proc/PID/status`, in bytes.
pub fn status(pid: u32, name: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() << 10
}

/// CPU time that a process and its threads have used: utime and stime, as exactly as the kernel knows them.
fn cpu_time(agent: &Agent) -> Duration {
    let tasks = fs::read_dir(format!("/proc/{}/task", agent.pid())).unwrap();
    let nanos = |task: fs::DirEntry| -> u64 {
        let schedstat = fs::read_to_string(task.path().join("schedstat")).unwrap();
        schedstat.split(' ').next().unwrap().parse().unwrap()
    };
    Duration::from_nanos(tasks.map(|task| nanos(task.unwrap())).sum())
}

#[test]
fn an_idle_agent_costs_next_to_nothing() {
    let site = Site::alone();
    site.config(&format!("{NGINX}out"));
    site.write("logs/access.log", access_log(1000));
    let mut agent = site.start();
    agent.wait_for_lines("a/b", 1000);
    agent.wait("a checkpoint", |site| site.path("data/checkpoint.redb").exists());
    let before = cpu_time(&agent);
    // This time is what is measured; nothing is waited for.
    thread::sleep(Duration::from_secs(2));
    let used = cpu_time(&agent) - before;
    let resident = status(agent.pid(), "VmRSS");
    agent.stop().assert_counts("a/b", [1000, 1000, 0, 0]);
    assert!(used < Duration::from_millis(20), "{used:?} of CPU time in 2 s");
    assert!(resident < 20 << 20, "{} KiB are resident", resident >> 10);
}

#[test]
fn the_first_event_is_out_within_100_ms() {
    let site = Site::alone();
    site.config(&format!("{NGINX}screen"));
    site.write("logs/access.log", access_log(10));
    let time = || {
        let _ = fs::remove_file(site.path("data/checkpoint.redb"));
        let begun = Instant::now();
        let mut command = site.weir(["run", "-c", "weir.yaml", "--until-idle"]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap()).lines();
        let first = stdout.next().unwrap().unwrap();
        let took = begun.elapsed();
        assert!(first.starts_with("{\"remote_addr\":"), "{first}");
        assert_eq!(stdout.count(), 9);
        assert_eq!(child.wait().unwrap().code(), Some(0));
        took
    };
    let best = (0..3).map(|_| time()).min().unwrap();
    assert!(best < Duration::from_millis(100), "{best:?}");
}

#[test]
fn a_plugin_is_compiled_once() {
    let site = Site::new();
    site.config(&format!("{NGINX}out"));
    site.write("logs/access.log", access_log(10));
    let cache = site.path("data/cache");
    fs::remove_dir_all(&cache).unwrap();
    let compiled = || {
        let files = fs::read_dir(&cache).unwrap().map(Result::unwrap);
        let mut files: Vec<_> =
            files.map(|file| (file.file_name(), file.metadata().unwrap().modified().unwrap())).collect();
        files.sort();
        files
    };
    site.run().assert_counts("a/b", [10, 10, 0, 0]);
    let first = compiled();
    assert_eq!(first.len(), 1);
    site.run().assert_counts("a/b", [0, 0, 0, 0]);
    assert_eq!(compiled(), first);

    // What is damaged is made again.
    let file = cache.join(&first[0].0);
    fs::write(&file, "damaged").unwrap();
    site.append("logs/access.log", access_log(10));
    let ran = site.run();
    ran.assert_counts("a/b", [10, 10, 0, 0]);
    ran.assert_says("compiled plugin is not usable, compiling again");
    assert!(fs::metadata(&file).unwrap().len() > 1000);
    assert!(site.events("a/b").iter().all(|event| event.get("__error__").is_none()));
}
