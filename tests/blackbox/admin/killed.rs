//! `kill -9` again and again, while a log is written and plugins are pushed, tried, chosen and removed, and the
//! configuration changes.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, SystemTime};

use serde_json::Value;
use weir::registry::{Canary, Choice};

use super::{APP, APP_PLUGINS, Answer, Client, Managed, another, settings, wasm};
use crate::harness::{Agent, Site, beside};

const KILLS: usize = 40;

/// Lines that are written at once, and the pause after them.
const BURST: u64 = 20;
const PAUSE: Duration = Duration::from_millis(2);

/// Comes and goes with the configuration.
const MORE: &str = "- { name: shop/more, files: { root: logs, include: [more.log] }, sink: out }";

/// What is asked of the agent.
#[derive(Clone, Debug)]
enum Wish {
    /// With that number in its settings; compiled again, or not.
    Push {
        number: u64,
        is_new: bool,
        canary: Option<u8>,
    },
    Activate(u64),
    Canary(u64, u8),
    Rollback,
    Remove(u64),
    Reload {
        has_more: bool,
    },
}

/// What the agent has said that it runs, and what it was asked for after that.
#[derive(Clone, Debug, Default)]
struct Known {
    choice: Choice,
    /// Versions that there are.
    versions: BTreeSet<u64>,
    /// Of versions.
    last: u64,
    wish: Option<Wish>,
}

/// What was so when the agent was killed.
struct Kill {
    /// Lines that were written.
    written: u64,
    settled: u64,
}

#[test]
fn forty_kills_amid_changes_lose_no_line_and_no_choice() {
    let seed = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().subsec_nanos().into();
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let managed = Managed::new(Site::new(), APP);
    let written = AtomicU64::new(0);
    let known = Mutex::new(Known::default());
    let mut wishes = 0;
    let ((), kills) = beside(
        |is_done| write(&managed.site, &written, is_done),
        || {
            let kill = |round| {
                let agent = managed.start();
                check_choice(&managed, &known, round);
                wishes += wish_until_killed(&managed, agent, &known, &mut random);
                let settled = managed.site.settled("shop/app").into_values().sum();
                Kill { written: written.load(Ordering::SeqCst), settled }
            };
            (0..KILLS).map(kill).collect::<Vec<_>>()
        },
    );
    let agent = managed.start();
    check_choice(&managed, &known, KILLS);
    agent.stop();
    let known = known.into_inner().unwrap();
    println!("{wishes} changes, {} versions, {} lines", known.last, written.load(Ordering::SeqCst));
    assert!(wishes > KILLS, "it was killed before it was asked for much");
    managed.site.run();
    check_lines(&managed.site, &kills, written.into_inner());
}

fn line(number: u64) -> String {
    format!("{number},{}\n", "x".repeat(number as usize % 31))
}

fn write(site: &Site, written: &AtomicU64, is_done: &AtomicBool) {
    let mut log = File::create(site.path("logs/app.log")).unwrap();
    let mut number = 0;
    while !is_done.load(Ordering::Relaxed) {
        let text: String = (number..number + BURST).map(line).collect();
        log.write_all(text.as_bytes()).unwrap();
        number += BURST;
        written.store(number, Ordering::SeqCst);
        thread::sleep(PAUSE);
    }
}

/// Asks for one change after another until the agent is killed, some time after some were answered. Gives how many were.
fn wish_until_killed(managed: &Managed, mut agent: Agent, known: &Mutex<Known>, random: &mut fastrand::Rng) -> usize {
    let (enough, delay) = (random.usize(0..6), Duration::from_millis(random.u64(0..50)));
    let mut random = random.fork();
    let client = managed.operator();
    let answered = AtomicUsize::new(0);
    beside(
        |is_killed| {
            while !is_killed.load(Ordering::Relaxed) {
                let wish = wish(&mut random, &known.lock().unwrap());
                known.lock().unwrap().wish = Some(wish.clone());
                // It has been killed.
                let Ok(answer) = ask(managed, client, &wish) else { break };
                take(&mut known.lock().unwrap(), &wish, &answer);
                answered.fetch_add(1, Ordering::Relaxed);
            }
        },
        || {
            agent.wait("some changes are answered", |_| answered.load(Ordering::Relaxed) >= enough);
            thread::sleep(delay);
            agent.kill();
        },
    );
    answered.into_inner()
}

fn wish(random: &mut fastrand::Rng, known: &Known) -> Wish {
    let versions: Vec<_> = known.versions.iter().copied().collect();
    let percent = random.u8(1..=99);
    let Some(one) = random.choice(versions) else {
        return Wish::Push { number: 0, is_new: true, canary: None };
    };
    match random.u8(0..10) {
        0..3 => Wish::Push {
            number: known.last + 1,
            is_new: random.u8(0..3) == 0,
            canary: random.bool().then_some(percent),
        },
        3..5 => Wish::Activate(if random.u8(0..4) == 0 { 0 } else { one }),
        5 => Wish::Canary(one, percent),
        6 => Wish::Rollback,
        7 => Wish::Remove(one),
        _ => Wish::Reload { has_more: random.bool() },
    }
}

fn ask(managed: &Managed, client: Client, wish: &Wish) -> std::io::Result<Answer> {
    match wish {
        Wish::Push { number, is_new, canary } => {
            let delimiter = wasm("delimiter");
            let bytes = if *is_new { another(&delimiter, *number) } else { delimiter };
            let query = canary.map(|percent| format!("?canary={percent}")).unwrap_or_default();
            client.try_push(&format!("{APP_PLUGINS}{query}"), &bytes, &settings(&format!("v{number}")))
        }
        Wish::Activate(version) => client.try_ask("POST", &format!("{APP_PLUGINS}/{version}/activate")),
        Wish::Canary(version, percent) => {
            client.try_ask("POST", &format!("{APP_PLUGINS}/{version}/activate?canary={percent}"))
        }
        Wish::Rollback => client.try_ask("POST", &format!("{APP_PLUGINS}/rollback")),
        Wish::Remove(version) => client.try_ask("DELETE", &format!("{APP_PLUGINS}/{version}")),
        Wish::Reload { has_more } => {
            managed.config(&format!("{APP}{}", if *has_more { MORE } else { "" }));
            client.try_ask("POST", "/v1/reload")
        }
    }
}

/// Takes down what was answered, which must be what was asked for.
fn take(known: &mut Known, wish: &Wish, answer: &Answer) {
    let said = || format!("{wish:?} of {known:?}: {} {}", answer.status, answer.text());
    let after = wished(known, wish);
    match (answer.status, wish) {
        (200, Wish::Reload { .. }) => {}
        (204, Wish::Remove(_)) => {}
        (201, _) => {
            let pushed = answer.json();
            assert_eq!(choice(&pushed["choice"]), after.choice, "{}", said());
            assert_eq!(pushed["version"]["number"], after.last, "{}", said());
        }
        (200, _) => assert_eq!(choice(&answer.json()), after.choice, "{}", said()),
        // There may be too many; what is in use cannot go, and is not tried; and there may be nothing before.
        (409, Wish::Push { .. } | Wish::Remove(_) | Wish::Rollback | Wish::Canary(..)) => {
            known.wish = None;
            return;
        }
        _ => panic!("{}", said()),
    }
    *known = Known { wish: None, ..after };
}

/// What is so when a wish is done.
fn wished(known: &Known, wish: &Wish) -> Known {
    let mut after = known.clone();
    match wish {
        Wish::Push { canary, .. } => {
            after.last += 1;
            after.versions.insert(after.last);
            match canary {
                None => activate(&mut after.choice, known.last + 1),
                Some(percent) => after.choice.canary = Some(Canary { version: known.last + 1, percent: *percent }),
            }
        }
        Wish::Activate(version) => activate(&mut after.choice, *version),
        Wish::Canary(version, percent) => {
            after.choice.canary = Some(Canary { version: *version, percent: *percent });
        }
        Wish::Rollback if after.choice.canary.is_some() => after.choice.canary = None,
        Wish::Rollback => {
            if let Some(before) = after.choice.before {
                activate(&mut after.choice, before);
            }
        }
        Wish::Remove(version) => {
            let Choice { active, canary, .. } = after.choice;
            if active != *version && canary.is_none_or(|canary| canary.version != *version) {
                after.versions.remove(version);
                after.choice.before = after.choice.before.filter(|before| before != version);
            }
        }
        Wish::Reload { .. } => {}
    }
    after
}

fn activate(choice: &mut Choice, version: u64) {
    choice.canary = None;
    if choice.active != version {
        (choice.before, choice.active) = (Some(choice.active), version);
    }
}

fn choice(value: &Value) -> Choice {
    serde_json::from_value(value.clone()).unwrap()
}

/// After a kill: what was answered is so, and what was not may be, in part if it is an upload.
fn check_choice(managed: &Managed, known: &Mutex<Known>, round: usize) {
    let mut known = known.lock().unwrap();
    let list = managed.operator().get(APP_PLUGINS);
    let chosen = choice(&list["choice"]);
    let versions: BTreeSet<u64> =
        list["versions"].as_array().unwrap().iter().map(|version| version["number"].as_u64().unwrap()).collect();
    let now = (chosen.clone(), versions.clone());
    let mut possible = vec![(known.choice.clone(), known.versions.clone())];
    if let Some(wish) = &known.wish {
        let after = wished(&known, wish);
        if let Wish::Push { .. } = wish {
            possible.push((known.choice.clone(), after.versions.clone()));
        }
        possible.push((after.choice, after.versions));
    }
    assert!(possible.contains(&now), "after kill {round}: {now:?}, which is none of {possible:?}");
    let last = known.last.max(versions.last().copied().unwrap_or(0));
    *known = Known { choice: chosen.clone(), versions, last, wish: None };
    let status = managed.operator().get("/v1/logstores/shop/app");
    let running = &status["plugins"][0]["version"];
    assert_eq!(running.as_u64().unwrap_or(0), chosen.active, "after kill {round}: {status}");
    assert_eq!(status["canary"]["version"].as_u64(), chosen.canary.map(|canary| canary.version), "{status}");
    check_blobs_of(managed, &list);
}

/// Each version has its blob, each blob a version, and nothing is left unfinished.
fn check_blobs_of(managed: &Managed, list: &Value) {
    let digests: BTreeSet<_> = list["versions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|version| format!("{}.wasm", version["digest"].as_str().unwrap()))
        .collect();
    assert_eq!(files(&managed.site, "data/registry/blobs"), digests);
    let records = files(&managed.site, "data/registry/logstores");
    assert!(records.iter().all(|name| name == "shop+app.json"), "{records:?}");
}

fn files(site: &Site, dir: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(site.path(dir)).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// Each line is there, in order within each run, and came again only after kills at which it was not settled.
fn check_lines(site: &Site, kills: &[Kill], written: u64) {
    let mut times = vec![0_usize; written as usize];
    let (mut next, mut runs) = (0, 1);
    let mut before = None;
    for event in site.events("shop/app") {
        let number: u64 = event["number"].as_str().unwrap_or_else(|| panic!("not parsed: {event}")).parse().unwrap();
        assert!(number <= next, "{number} came before {next}");
        if before.is_some_and(|before| number != before + 1) {
            runs += 1;
        }
        before = Some(number);
        times[number as usize] += 1;
        next = next.max(number + 1);
    }
    assert_eq!(next, written);
    assert!(runs <= kills.len() + 1, "{runs} times they were not in order");
    let mut start = 0;
    for number in 0..written {
        let may_come_again = |kill: &&Kill| number < kill.written && kill.settled <= start;
        let allowed = 1 + kills.iter().filter(may_come_again).count();
        let came = times[number as usize];
        assert!((1..=allowed).contains(&came), "{number} came {came} times; unsettled at {} kills", allowed - 1);
        start += line(number).len() as u64;
    }
}
