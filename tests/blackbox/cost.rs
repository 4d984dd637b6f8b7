//! What the agent costs when nothing happens, and how soon it is there. Nothing else runs meanwhile.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use weir::budget::Budget;
use weir::clock::thread_cpu;
use weir::sandbox::cache::Whose;
use weir::sandbox::compile::{ByChild, Compiler};
use weir::sandbox::{Limits, Sandbox, Stage};

use crate::harness::{Agent, Site, access_log, numbered, plugins, raw};

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
    cpu_time_of(agent.pid())
}

pub fn cpu_time_of(pid: u32) -> Duration {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let nanos = |task: fs::DirEntry| -> u64 {
        let schedstat = fs::read_to_string(task.path().join("schedstat")).unwrap();
        schedstat.split(' ').next().unwrap().parse().unwrap()
    };
    Duration::from_nanos(tasks.map(|task| nanos(task.unwrap())).sum())
}

/// Calls of `read` and its kin that a process has made.
fn reads(agent: &Agent) -> u64 {
    let io = fs::read_to_string(format!("/proc/{}/io", agent.pid())).unwrap();
    io.lines().find_map(|line| line.strip_prefix("syscr: ")).unwrap().parse().unwrap()
}

/// Waits until what was written is settled and on disk, and a second has passed in which nothing was done.
fn wait_until_idle(agent: &mut Agent) {
    let (mut since, mut before) = (Instant::now(), cpu_time(agent));
    let pid = agent.pid();
    agent.wait("rest", |site| {
        let now = cpu_time_of(pid);
        if now - before > Duration::from_millis(20) {
            (since, before) = (Instant::now(), now);
        }
        site.path("data/checkpoint.redb").exists() && since.elapsed() > Duration::from_millis(1500)
    });
}

#[test]
fn an_idle_agent_costs_next_to_nothing() {
    let site = Site::alone();
    site.config(&format!("{NGINX}out"));
    site.write("logs/access.log", access_log(1000));
    let mut agent = site.start();
    agent.wait_for_lines("a/b", 1000);
    wait_until_idle(&mut agent);
    let before = cpu_time(&agent);
    // This time is what is measured; nothing is waited for.
    thread::sleep(Duration::from_secs(2));
    let used = cpu_time(&agent) - before;
    // The rest are pages of the program, which the system drops when it needs them.
    let (own, resident) = (status(agent.pid(), "RssAnon"), status(agent.pid(), "VmRSS"));
    agent.stop().assert_counts("a/b", [1000, 1000, 0, 0]);
    assert!(used < Duration::from_millis(20), "{used:?} of CPU time in 2 s");
    assert!(own < 8 << 20, "{} KiB of its own are resident", own >> 10);
    assert!(resident < 24 << 20, "{} KiB are resident", resident >> 10);
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
fn an_instance_is_there_at_once_and_a_compiled_plugin_soon() {
    let site = Site::alone();
    let sandbox = || {
        let compiler = Compiler::new(&site.path("data/cache"), Whose::Shared, ByChild::default()).unwrap();
        Sandbox::new(compiler).unwrap()
    };
    let path = plugins().join("nginx.wasm");
    // Each with an engine of its own, which knows nothing yet.
    let load = |_| {
        let sandbox = sandbox();
        let begun = thread_cpu();
        sandbox.load(&path).unwrap();
        thread_cpu() - begun
    };
    let loaded = (0..5).map(load).min().unwrap();
    let (plugin, budget) = (sandbox().load(&path).unwrap(), Budget::new(None));
    let make = |_| {
        let begun = thread_cpu();
        let stage = Stage::new(plugin.clone(), "{\"format\":\"main\"}", Limits::default(), &budget).unwrap();
        drop(stage);
        thread_cpu() - begun
    };
    let made = (0..200).map(make).min().unwrap();
    assert!(loaded < Duration::from_millis(5), "{loaded:?} to load a compiled plugin");
    assert!(made < Duration::from_micros(100), "{made:?} to replace an instance");
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
        // Its time changes when it is used.
        let mut files: Vec<_> = files.map(|file| (file.file_name(), file.metadata().unwrap().ino())).collect();
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

/// Files in directories of a hundred, each with one line; the agent has shipped them and is idle.
fn with_quiet_files(count: usize) -> Site {
    let site = Site::alone();
    site.config(&raw("include: [\"*/*.log\"]"));
    for number in 0..count {
        site.write(&quiet_file(number), format!("{number}\n"));
    }
    site
}

fn quiet_file(number: usize) -> String {
    format!("logs/{}/{number}.log", number / 100)
}

/// CPU time that is used in 5 s in which nothing happens.
fn idle_cpu_time(agent: &mut Agent) -> Duration {
    wait_until_idle(agent);
    let before = cpu_time(agent);
    // This time is what is measured; nothing is waited for.
    thread::sleep(Duration::from_secs(5));
    cpu_time(agent) - before
}

#[test]
fn five_hundred_quiet_files_cost_next_to_nothing() {
    let site = with_quiet_files(500);
    let mut agent = site.start();
    agent.wait_for_lines("a/b", 500);
    wait_until_idle(&mut agent);
    let before = reads(&agent);
    let used = idle_cpu_time(&mut agent);
    let calls = reads(&agent) - before;
    // Another machine's noise is not the agent's: the least of two is.
    let used = if used > Duration::from_millis(5) { used.min(idle_cpu_time(&mut agent)) } else { used };
    let resident = status(agent.pid(), "VmRSS");
    agent.stop().assert_counts("a/b", [500, 500, 0, 0]);
    // Less than a hundredth of a core.
    assert!(used <= Duration::from_millis(40), "{used:?} of CPU time in 5 s");
    assert!(calls <= 50, "{calls} read calls in some seconds, of 500 files");
    assert!(resident <= 24 << 20, "{} KiB are resident", resident >> 10);
}

#[test]
fn ten_thousand_quiet_files_cost_little_and_each_is_followed_at_once() {
    const FILES: usize = 10_000;
    let site = with_quiet_files(FILES);
    let mut agent = site.start();
    agent.wait_for_lines("a/b", FILES);
    let used = idle_cpu_time(&mut agent);
    let mut random = fastrand::Rng::with_seed(1);
    let mut times: Vec<_> = (0..20)
        .map(|line| {
            let begun = Instant::now();
            site.append(&quiet_file(random.usize(0..FILES)), format!("{}\n", FILES + line));
            agent.wait_for_lines("a/b", FILES + line + 1);
            begun.elapsed()
        })
        .collect();
    let resident = status(agent.pid(), "VmRSS");
    agent.stop().assert_counts("a/b", [FILES as u64 + 20, FILES as u64 + 20, 0, 0]);
    let mut all: Vec<u64> = site.contents("a/b").iter().map(|number| number.parse().unwrap()).collect();
    all.sort();
    assert!(all == (0..FILES as u64 + 20).collect::<Vec<_>>(), "some are lost or doubled");
    times.sort();
    // Six hundredths of a core.
    assert!(used <= Duration::from_millis(300), "{used:?} of CPU time in 5 s");
    assert!(resident <= 60 << 20, "{} KiB are resident", resident >> 10);
    assert!(times[10] <= Duration::from_millis(200), "the median is {:?}", times[10]);
    assert!(times[19] <= Duration::from_secs(1), "the longest is {:?}", times[19]);
}

#[test]
fn a_thousand_files_at_once_take_turns() {
    /// Bytes that are read of a file before it is another one's turn; the last line may be longer than that.
    const CHUNK: usize = 128 << 10;
    const FILES: usize = 1000;
    const LINE: usize = 4096;
    const LINES: usize = CHUNK / LINE + 8;
    let site = Site::new();
    site.config(&raw("include: [\"*/*.log\"]"));
    let fill = "x".repeat(LINE);
    for file in 0..FILES {
        let line = |number| format!("{file} {number} {fill}")[..LINE - 1].to_owned() + "\n";
        let text: String = (0..LINES).map(line).collect();
        site.write(&quiet_file(file), text);
    }
    let (count, all) = ((FILES * LINES) as u64, CHUNK / LINE + 1);
    site.run().assert_counts("a/b", [count, count, 0, 0]);
    let mut next = vec![0; FILES];
    let mut begun = 0;
    for content in site.contents("a/b") {
        let mut words = content.split(' ').map(|word| word.parse::<usize>());
        let (file, line) = (words.next().unwrap().unwrap(), words.next().unwrap().unwrap());
        assert_eq!(line, next[file], "of file {file}: lost, doubled or out of order");
        next[file] += 1;
        begun += usize::from(line == 0);
        assert!(line < all || begun == FILES, "line {line} of {file} is before the first of {} others", FILES - begun);
    }
    assert!(next.iter().all(|line| *line == LINES), "some are lost");
}

#[test]
fn no_line_costs_a_system_call() {
    const LINES: u64 = 200_000;
    let site = Site::new();
    site.config(&raw("poll_interval: 50ms"));
    let mut agent = site.start();
    agent.wait_to_say("running");
    let before = reads(&agent);
    let fill = "x".repeat(60);
    let text: String = (0..LINES).map(|number| format!("{number} {fill}\n")).collect();
    // It is there at once.
    site.write("logs/new", text);
    site.rename("logs/new", "logs/a.log");
    agent.wait_for_lines("a/b", LINES as usize);
    let calls = reads(&agent) - before;
    agent.stop().assert_counts("a/b", [LINES, LINES, 0, 0]);
    let numbers = site.contents("a/b").into_iter().map(|line| line.split_once(' ').unwrap().0.to_owned());
    assert!(numbers.eq(numbered(0..LINES)), "some are lost, doubled or out of order");
    assert!(calls < 1000, "{calls} read calls for {LINES} lines");
}
