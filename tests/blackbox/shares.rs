//! CPU time by share, and ceilings of it.

use std::thread;
use std::time::{Duration, Instant};

use crate::harness::{Ran, Site, access_log, plugins};

/// Lines in the file that every logstore reads: twice as many as any of them gets done here, or more.
const LINES: u64 = 400_000;

/// Makes every line so costly that the file is not at its end too soon.
const SLOW: &str = r"{ use: regex, settings: { pattern: '^(?<a>.*) (?<b>.*) (?<c>.*) (?<d>.*)$' } }";

/// A directory in which each of the projects, which are YAML, has two logstores that have much to do.
fn site(projects: &[(&str, &str)]) -> Site {
    let site = Site::alone();
    site.write("logs/access.log", access_log(LINES));
    let mut text = format!("data_dir: data\nplugin_dirs: [{:?}]\nworkers: 1\nprojects:\n", plugins());
    for (project, keys) in projects {
        text += &format!("  {project}: {keys}\n");
    }
    text += "logstores:\n";
    for (project, _) in projects {
        for logstore in ["one", "two"] {
            text += &format!(
                "- {{ name: {project}/{logstore}, files: {{ root: logs }}, plugins: [{SLOW}], sink: nowhere }}\n"
            );
        }
    }
    site.write("weir.yaml", text + "sinks: { nowhere: { type: blackhole } }\n");
    site
}

/// CPU seconds of each logstore of a project. None of them has come to the end of its file.
fn cpu(ran: &Ran, project: &str) -> [f64; 2] {
    ["one", "two"].map(|logstore| {
        let accounts = &ran.summary[&format!("{project}/{logstore}")];
        assert!((1..LINES).contains(&accounts["read"]), "{project}/{logstore} was not busy all the time: {accounts:?}");
        accounts["cpu"] as f64 / 1e9
    })
}

#[test]
fn projects_get_cpu_time_by_their_shares_and_their_logstores_alike() {
    let shares = [("one", 1.0), ("two", 2.0), ("four", 4.0)];
    let site = site(&[("one", "{ share: 1 }"), ("two", "{ share: 2 }"), ("four", "{ share: 4 }")]);
    let mut agent = site.start();
    agent.wait_to_say("running");
    // This time is what is measured; nothing is waited for.
    thread::sleep(Duration::from_secs(3));
    let ran = agent.stop();
    let used = shares.map(|(project, _)| cpu(&ran, project));
    let all: f64 = used.iter().flatten().sum();
    for ((project, share), [one, two]) in shares.into_iter().zip(used) {
        let part = (one + two) / (all * share / 7.0);
        assert!((0.93..1.07).contains(&part), "{project} got {part} of its share: {used:?}");
        assert!((0.85..1.15).contains(&(one / two)), "logstores of {project}: {used:?}");
    }
}

#[test]
fn a_project_at_its_ceiling_gets_no_more_and_keeps_nobody_waiting() {
    let site = site(&[("low", "{ share: 1000, cpu: 100m }"), ("free", "{}")]);
    let begun = Instant::now();
    let mut agent = site.start();
    agent.wait_to_say("running");
    // This time is what is measured; nothing is waited for.
    thread::sleep(Duration::from_secs(3));
    let ran = agent.stop();
    let seconds = begun.elapsed().as_secs_f64();
    let [low, free] = ["low", "free"].map(|project| cpu(&ran, project).iter().sum::<f64>());
    // What it may save up, and a turn.
    assert!(low <= 0.1 * seconds + 0.01 + 0.05, "{low} s of CPU time in {seconds} s");
    assert!(low >= 0.2 && free >= 4.0 * low, "{low} s of CPU time, beside {free} s");
}

#[test]
fn an_agent_ends_at_once_though_a_project_is_far_beyond_its_ceiling() {
    let site = site(&[("low", "{ cpu: 1m }")]);
    let mut agent = site.start();
    agent.wait_to_say("running");
    // Two turns take some milliseconds, so it has nothing left for many seconds.
    thread::sleep(Duration::from_secs(1));
    let begun = Instant::now();
    let ran = agent.stop();
    assert!(begun.elapsed() < Duration::from_secs(3), "it took {:?}", begun.elapsed());
    ran.assert_settled();
    let read = ["one", "two"].map(|logstore| ran.summary[&format!("low/{logstore}")]["read"]);
    assert!(read.iter().sum::<u64>() > 0 && read.iter().all(|read| *read < LINES / 10), "{read:?}");
}
