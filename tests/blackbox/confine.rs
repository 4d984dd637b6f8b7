//! The agent's process is confined, on all of its threads, and does all the same what it is for.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};

use rustix::process::{Pid, Signal, geteuid, kill_process};

use crate::bombs;
use crate::harness::{Agent, POLL, Site, numbered, numbers, raw};

/// `CAP_DAC_OVERRIDE` and `CAP_DAC_READ_SEARCH`, by their bits.
const OVERRIDE: u64 = 1 << 1;
const READ_SEARCH: u64 = 1 << 2;
/// Somebody who is not root.
const SOMEBODY: u32 = 12345;

/// What `/proc` says of each thread of an agent: effective, permitted and bounding capabilities, and no_new_privs.
fn threads(agent: &Agent) -> Vec<[u64; 4]> {
    let tasks = fs::read_dir(format!("/proc/{}/task", agent.pid())).unwrap();
    let status = |task: fs::DirEntry| fs::read_to_string(task.path().join("status")).unwrap();
    tasks
        .map(|task| {
            let status = status(task.unwrap());
            ["CapEff", "CapPrm", "CapBnd", "NoNewPrivs"].map(|name| {
                let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap();
                u64::from_str_radix(line.trim(), 16).unwrap()
            })
        })
        .collect()
}

/// An agent that has read ten lines, some of whose directories are somebody else's.
fn site(belongs_to_somebody: &str) -> Site {
    let site = Site::new();
    site.config(&raw(""));
    site.write("logs/a.log", numbers(0..10));
    // Nobody else may read it.
    fs::set_permissions(site.path("logs/a.log"), fs::Permissions::from_mode(0o600)).unwrap();
    if geteuid().is_root() {
        chown(site.path("logs/a.log"), Some(SOMEBODY), Some(SOMEBODY)).unwrap();
    }
    if !belongs_to_somebody.is_empty() {
        fs::create_dir_all(site.path(belongs_to_somebody)).unwrap();
        chown(site.path(belongs_to_somebody), Some(SOMEBODY), Some(SOMEBODY)).unwrap();
    }
    site
}

#[test]
fn no_thread_has_a_privilege_that_it_does_not_need() {
    let site = site("");
    let mut agent = site.start();
    agent.wait_for_lines("a/b", 10);
    let threads = threads(&agent);
    // Signals, two workers or one, the sink, inotify, the checkpoint and the first.
    assert!(threads.len() >= 6, "{threads:?}");
    let kept = if geteuid().is_root() { READ_SEARCH } else { 0 };
    for [effective, permitted, bounding, no_new_privs] in threads {
        assert_eq!((effective, permitted, no_new_privs), (kept, kept, 1));
        assert!(bounding == kept || !geteuid().is_root(), "{bounding:x}");
    }
    assert!(agent.stderr().contains(" confined: "), "{}", agent.stderr());
    agent.stop().assert_counts("a/b", [10, 10, 0, 0]);
    assert_eq!(site.contents("a/b"), numbered(0..10));
}

#[test]
fn the_right_to_write_everywhere_is_kept_only_where_it_is_needed() {
    if !geteuid().is_root() {
        return;
    }
    let site = site("out");
    let mut agent = site.start();
    agent.wait_for_lines("a/b", 10);
    assert!(agent.stderr().contains("capabilities: dac_override, dac_read_search"), "{}", agent.stderr());
    assert!(threads(&agent).iter().all(|thread| thread[0] == OVERRIDE | READ_SEARCH));
    agent.stop().assert_counts("a/b", [10, 10, 0, 0]);
}

#[test]
fn an_agent_can_be_left_unconfined() {
    let site = site("");
    let text = fs::read_to_string(site.path("weir.yaml")).unwrap();
    site.write("weir.yaml", text + "confine: off\n");
    let mut agent = site.start();
    agent.wait_for_lines("a/b", 10);
    assert!(!agent.stderr().contains("confined"), "{}", agent.stderr());
    assert!(threads(&agent).iter().all(|thread| thread[3] == 0));
    agent.stop();
}

#[test]
fn what_cannot_be_confined_is_told_or_refused() {
    let site = Site::new();
    site.write("logs/a.log", numbers(0..10));
    let missing = "- name: a/none\n  files: { root: /no-such-directory/logs }\n  sink: out\n";
    site.config(&format!("{missing}{}", raw("")));
    let gap = "reading files: the root /no-such-directory/logs is not there, and neither is what is above it";
    let ran = site.run();
    ran.assert_says("WARN");
    ran.assert_says(gap);
    ran.assert_counts("a/b", [10, 10, 0, 0]);

    let text = fs::read_to_string(site.path("weir.yaml")).unwrap();
    site.write("weir.yaml", text + "confine: required\n");
    let ran = site.run_with(&[]);
    ran.assert_code(78);
    ran.assert_says("weir.yaml: confine: is required, and cannot be had: ");
    ran.assert_says(gap);

    site.config(&raw(""));
    let text = fs::read_to_string(site.path("weir.yaml")).unwrap();
    site.write("weir.yaml", text + "confine: required\n");
    if site.run_with(&[]).stderr.contains("(ABI 7)") {
        site.run();
    }
}

#[test]
fn a_confined_agent_compiles_and_follows_a_root_that_comes_goes_and_comes_again() {
    let site = Site::new();
    fs::remove_dir_all(site.path("data/cache")).unwrap();
    site.config(
        "- name: a/b
  files: { root: later/logs, poll_interval: 20ms }
  plugins: [{ use: delimiter, settings: { fields: [content] } }]
  sink: out",
    );
    let mut agent = site.start();
    agent.wait_to_say("running");
    for round in 0..3 {
        // Ten lines, a rotation, and ten more.
        let range = |begin: u64| 20 * round + begin..20 * round + begin + 10;
        site.write("later/logs/a.log", numbers(range(0)));
        agent.wait_for_lines("a/b", range(0).end as usize);
        fs::rename(site.path("later/logs/a.log"), site.path("later/logs/a.log.1")).unwrap();
        site.write("later/logs/a.log", numbers(range(10)));
        agent.wait_for_lines("a/b", range(10).end as usize);
        fs::remove_dir_all(site.path("later")).unwrap();
    }
    agent.stop().assert_counts("a/b", [60, 60, 0, 0]);
    assert_eq!(site.contents("a/b"), numbered(0..60));
}

/// The children of a process: of an agent, those that compile.
pub fn children(agent: u32) -> Vec<i32> {
    let is_child = |pid: &i32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let after = stat.rsplit_once(") ").map_or("", |(_, after)| after);
        let mut words = after.split(' ');
        words.next() != Some("Z") && words.next() == Some(&agent.to_string())
    };
    let pids = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(is_child).collect()
}

/// Whether a process is there and not just waited for.
fn lives(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

/// An agent that compiles what takes long, and the child that does it.
fn compiling(site: &Site) -> (Agent<'_>, i32) {
    site.write("plugins/slow.wasm", bombs::many_functions(20));
    site.write("logs/a.log", numbers(0..10));
    site.config(&format!(
        "- name: bad/slow\n  files: {{ root: logs }}\n  plugins: [{{ use: slow }}]\n  sink: out\n{}",
        raw("")
    ));
    let mut agent = site.start();
    let pid = agent.pid();
    let mut child = None;
    agent.wait("a child that compiles", |site| {
        child = children(pid).first().copied();
        child.is_some() && !bombs::unfinished(site).is_empty()
    });
    (agent, child.unwrap())
}

#[test]
fn an_agent_that_is_told_to_stop_does_not_wait_for_what_is_compiled() {
    let site = Site::new();
    let (agent, child) = compiling(&site);
    agent.stop();
    assert!(!lives(child));
    assert_eq!(bombs::unfinished(&site), [""; 0]);
}

#[test]
fn what_is_compiled_ends_with_the_agent_and_leaves_nothing_for_long() {
    let site = Site::new();
    let (mut agent, child) = compiling(&site);
    // The child has the lowest priority and nothing else.
    agent.wait("a confined child", |_| {
        let status = fs::read_to_string(format!("/proc/{child}/status")).unwrap_or_default();
        let stat = fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
        let nice = stat.rsplit_once(") ").and_then(|(_, after)| after.split(' ').nth(16).map(str::to_owned));
        let has = |line: &str| status.lines().any(|l| l == line);
        has("CapEff:\t0000000000000000")
            && has("CapPrm:\t0000000000000000")
            && has("NoNewPrivs:\t1")
            && has("Threads:\t1")
            && nice.as_deref() == Some("19")
    });
    let open = fs::read_dir(format!("/proc/{child}/fd")).unwrap();
    let open: Vec<_> = open.filter_map(|fd| fs::read_link(fd.unwrap().path()).ok()).collect();
    let files: Vec<_> = open.iter().filter(|path| path.starts_with(site.path(""))).collect();
    assert!(files.len() == 1 && files[0].starts_with(site.path("data/cache")), "{open:?}");
    agent.kill();
    let begun = std::time::Instant::now();
    while lives(child) {
        assert!(begun.elapsed().as_secs() < 60, "the child goes on without the agent");
        std::thread::sleep(POLL);
    }
    assert_eq!(bombs::unfinished(&site).len(), 1);
    site.config(&raw(""));
    site.run().assert_counts("a/b", [10, 10, 0, 0]);
    assert_eq!(bombs::unfinished(&site), [""; 0]);
}

#[test]
fn a_child_that_is_killed_is_an_error_in_words() {
    let site = Site::new();
    let (mut agent, child) = compiling(&site);
    kill_process(Pid::from_raw(child).unwrap(), Signal::KILL).unwrap();
    agent.wait_to_say("slow.wasm: compiling was killed, perhaps because the system had no more memory");
    agent.wait_for_lines("a/b", 10);
    agent.stop().assert_counts("a/b", [10, 10, 0, 0]);
    assert_eq!(bombs::unfinished(&site), [""; 0]);
}
