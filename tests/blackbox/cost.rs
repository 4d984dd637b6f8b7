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
pub fn cpu_time_of(pid: u32) -> Duration {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let nanos = |task: fs::DirEntry| -> u64 {
        let schedstat = fs::read_to_string(task.path().join("schedstat")).unwrap();
        schedstat.split(' ').next().unwrap().parse().unwrap()
    };
    Duration::from_nanos(tasks.map(|task| nanos(task.unwrap())).sum())
}

/// Calls of `read` and `write` and their kin that a process has made.
fn calls(pid: u32) -> u64 {
    let io = fs::read_to_string(format!("/proc/{pid}/io")).unwrap();
    let call = |name| io.lines().find_map(|line| line.strip_prefix(name)).unwrap().parse::<u64>().unwrap();
    call("syscr: ") + call("syscw: ")
}

/// How often the threads of a process have gone to sleep.
fn sleeps(pid: u32) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let of = |task: fs::DirEntry| -> u64 {
        let status = fs::read_to_string(task.path().join("status")).unwrap();
        status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:\t")).unwrap().parse().unwrap()
    };
    tasks.map(|task| of(task.unwrap())).sum()
}

/// Waits until what was written is settled and on disk, and nothing was read or written for a while.
fn wait_until_idle(agent: &mut Agent) {
    let pid = agent.pid();
    let (mut since, mut before) = (Instant::now(), calls(pid));
    agent.wait("rest", |site| {
        let now = calls(pid);
        if now != before {
            (since, before) = (Instant::now(), now);
        }
        site.path("data/checkpoint.redb").exists() && since.elapsed() > Duration::from_millis(1500)
    });
}

/// What is measured of an agent in which nothing happens.
const IDLE: Duration = Duration::from_secs(5);

/// What the machine asks for waking up: where caches are cold after each sleep that is up to half a millisecond, and
/// next to nothing on others.
struct Idle {
    /// CPU time that the agent used in that time.
    used: Duration,
    /// How often its threads woke up.
    wakes: u64,
    /// Its calls of `read` and `write`.
    calls: u64,
    /// CPU time that a thread used in the same time which wakes up ten times a second, and does what `looks` does.
    price: Duration,
}

impl Idle {
    fn of(agent: &mut Agent, mut looks: impl FnMut(usize)) -> Idle {
        wait_until_idle(agent);
        let pid = agent.pid();
        let before = (cpu_time_of(pid), sleeps(pid), calls(pid), thread_cpu());
        for turn in 0..(IDLE.as_millis() / 100) as usize {
            // This time is what is measured; nothing is waited for.
            thread::sleep(Duration::from_millis(100));
            looks(turn);
        }
        Idle {
            price: thread_cpu() - before.3,
            used: cpu_time_of(pid) - before.0,
            wakes: sleeps(pid) - before.1,
            calls: calls(pid) - before.2,
        }
    }

    /// Panics if it is more than what `looks` has cost, so many times, or than what is next to nothing.
    #[track_caller]
    fn assert_costs(&self, times: u32, at_least: Duration) {
        let Idle { used, wakes, calls, price } = self;
        println!(
            "{used:?} of CPU time in {IDLE:?}, {wakes} wakes, {calls} calls; a thread that does as much: {price:?}"
        );
        // 8 a second: the agent itself, its keeper, its checkpoint and the lane.
        assert!((20..=60).contains(wakes), "{wakes} wakes in {IDLE:?}");
        // One is when it lets go of what it needs only while it is busy.
        assert!(*calls <= 5, "{calls} calls of `read` and `write` in {IDLE:?}");
        assert!(*used <= at_least.max(*price * times), "{used:?} of CPU time in {IDLE:?}; its price is {price:?}");
    }
}

#[test]
fn an_idle_agent_costs_next_to_nothing() {
    let site = Site::alone();
    site.config(&format!("{NGINX}out"));
    site.write("logs/access.log", access_log(1000));
    let mut agent = site.start();
    agent.wait_for_lines("a/b", 1000);
    let idle = Idle::of(&mut agent, |_| assert!(fs::exists(site.path("logs")).unwrap()));
    // The rest are pages of the program, which the system drops when it needs them.
    let (own, resident) = (status(agent.pid(), "RssAnon"), status(agent.pid(), "VmRSS"));
    agent.stop().assert_counts("a/b", [1000, 1000, 0, 0]);
    idle.assert_costs(10, Duration::from_millis(10));
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

/// Looks as a poll does, in the plainest way: once a second each directory, and one of thirty files.
fn looks(site: &Site, count: usize) -> impl FnMut(usize) {
    let files: Vec<_> = (0..count).map(|number| site.path(quiet_file(number))).collect();
    let directories: Vec<_> = (0..count.div_ceil(100)).map(|number| site.path(format!("logs/{number}"))).collect();
    move |turn| {
        if turn % 10 == 0 {
            directories.iter().for_each(|directory| assert!(fs::metadata(directory).unwrap().is_dir()));
            let turn = turn / 10;
            files.iter().skip(turn).step_by(30).for_each(|file| assert!(fs::metadata(file).unwrap().is_file()));
        }
    }
}

#[test]
fn five_hundred_quiet_files_cost_next_to_nothing() {
    let site = with_quiet_files(500);
    let mut agent = site.start();
    agent.wait_for_lines("a/b", 500);
    let idle = Idle::of(&mut agent, looks(&site, 500));
    let resident = status(agent.pid(), "VmRSS");
    agent.stop().assert_counts("a/b", [500, 500, 0, 0]);
    // A thousandth of a core.
    idle.assert_costs(10, Duration::from_millis(5));
    assert!(resident <= 24 << 20, "{} KiB are resident", resident >> 10);
}

#[test]
fn ten_thousand_quiet_files_cost_little_and_each_is_followed_at_once() {
    const FILES: usize = 10_000;
    let site = with_quiet_files(FILES);
    let mut agent = site.start();
    agent.wait_for_lines("a/b", FILES);
    let idle = Idle::of(&mut agent, looks(&site, FILES));
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
    // A hundredth of a core.
    idle.assert_costs(10, Duration::from_millis(50));
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
    let before = calls(agent.pid());
    let fill = "x".repeat(60);
    let text: String = (0..LINES).map(|number| format!("{number} {fill}\n")).collect();
    // It is there at once.
    site.write("logs/new", text);
    site.rename("logs/new", "logs/a.log");
    agent.wait_for_lines("a/b", LINES as usize);
    let calls = calls(agent.pid()) - before;
    agent.stop().assert_counts("a/b", [LINES, LINES, 0, 0]);
    let numbers = site.contents("a/b").into_iter().map(|line| line.split_once(' ').unwrap().0.to_owned());
    assert!(numbers.eq(numbered(0..LINES)), "some are lost, doubled or out of order");
    assert!(calls < 1000, "{calls} calls for {LINES} lines");
}
