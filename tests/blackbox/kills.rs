//! `kill -9` again and again, while a log is written and rotated.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, SystemTime};

use crate::harness::{Agent, Lines, Site, beside, raw};

const KILLS: usize = 50;
/// Lines that are written at once, and the pause after them: almost 30,000 lines a second.
const BURST: u64 = 60;
const PAUSE: Duration = Duration::from_millis(2);
/// A file is rotated after so many bursts.
const ROTATE_AFTER: std::ops::Range<usize> = 100..1000;

/// A file of the log, in the order in which they were written.
struct Generation {
    inode: u64,
    /// The number of its first line.
    first: u64,
}

/// What was so when the agent was killed.
struct Kill {
    /// Lines that were written.
    written: u64,
    /// Settled offsets by inode.
    settled: BTreeMap<u64, u64>,
}

#[test]
fn fifty_kills_under_load_lose_nothing_and_double_only_what_was_not_settled() {
    let seed = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().subsec_nanos().into();
    println!("seed {seed}");
    let site = Site::new();
    site.config(&raw("include: [\"access.log*\"], poll_interval: 100ms"));
    let (written, mut random) = (AtomicU64::new(0), fastrand::Rng::with_seed(seed));
    let mut rotations = random.fork();
    let (generations, kills) = beside(
        |is_done| write_and_rotate(&site, &mut rotations, &written, is_done),
        || {
            let mut lines = Lines::of("a/b");
            let kill = |round| {
                let mut agent = site.start();
                if round % 5 == 4 {
                    a_checkpoint(&site, &mut agent, &mut lines);
                    thread::sleep(Duration::from_millis(random.u64(0..25)));
                } else {
                    go_on_for_a_while(&site, &mut agent, &mut lines, &mut random);
                }
                agent.kill();
                let settled = site.settled_by_inode("a/b");
                Kill { written: written.load(Ordering::SeqCst), settled }
            };
            (0..KILLS).map(kill).collect::<Vec<_>>()
        },
    );
    site.run();

    assert!(generations.len() > 3, "it was rotated {} times", generations.len() - 1);
    for generation in &generations {
        let offsets: Vec<_> = kills.iter().filter_map(|kill| kill.settled.get(&generation.inode)).collect();
        assert!(offsets.is_sorted(), "settled offsets went back: {offsets:?}");
    }
    let settled = |kill: &Kill| kill.settled.values().sum::<u64>();
    assert!(kills.chunks(10).is_sorted_by(|a, b| settled(&a[9]) < settled(&b[9])), "settled offsets stand still");
    check(&site, &generations, &kills, written.into_inner());
}

/// Until the moment of the next kill: as soon as it is started, some time later, or when it has shipped something.
fn go_on_for_a_while(site: &Site, agent: &mut Agent, lines: &mut Lines, random: &mut fastrand::Rng) {
    match random.u8(0..3) {
        0 => thread::sleep(Duration::from_millis(random.u64(0..25))),
        1 => thread::sleep(Duration::from_millis(random.u64(25..800))),
        _ => more_lines(site, agent, lines, random.usize(1..5000)),
    }
}

/// Until there is a checkpoint in which something more is settled.
fn a_checkpoint(site: &Site, agent: &mut Agent, lines: &mut Lines) {
    more_lines(site, agent, lines, 1);
    let before = checkpointed(site);
    agent.wait("a checkpoint", |site| checkpointed(site) != before);
}

fn more_lines(site: &Site, agent: &mut Agent, lines: &mut Lines, more: usize) {
    let before = lines.count(site);
    agent.wait("more lines", |site| lines.count(site) >= before + more);
}

fn checkpointed(site: &Site) -> Option<SystemTime> {
    fs::metadata(site.path("data/checkpoint.redb")).ok().map(|meta| meta.modified().unwrap())
}

/// Lines of several lengths.
fn line(number: u64) -> String {
    format!("{number} {}\n", "x".repeat(number as usize % 31))
}

fn write_and_rotate(
    site: &Site,
    random: &mut fastrand::Rng,
    written: &AtomicU64,
    is_done: &AtomicBool,
) -> Vec<Generation> {
    let (mut generations, mut number) = (Vec::new(), 0);
    let rotated = |age| site.path(format!("logs/access.log.{age}"));
    let path = site.path("logs/access.log");
    while !is_done.load(Ordering::Relaxed) {
        // All that are there become one older, the oldest first.
        (1..generations.len()).rev().for_each(|age| fs::rename(rotated(age), rotated(age + 1)).unwrap());
        if !generations.is_empty() {
            fs::rename(&path, rotated(1)).unwrap();
        }
        let mut file: File = OpenOptions::new().append(true).create_new(true).open(&path).unwrap();
        generations.push(Generation { inode: file.metadata().unwrap().ino(), first: number });
        for _ in 0..random.usize(ROTATE_AFTER) {
            if is_done.load(Ordering::Relaxed) {
                break;
            }
            let text: String = (number..number + BURST).map(line).collect();
            file.write_all(text.as_bytes()).unwrap();
            number += BURST;
            written.store(number, Ordering::SeqCst);
            thread::sleep(PAUSE);
        }
    }
    generations
}

/// Each line is there, those of a file in order, and it came again only after kills at which it was not settled.
fn check(site: &Site, generations: &[Generation], kills: &[Kill], written: u64) {
    let mut times = vec![0_usize; written as usize];
    // Of each generation, the line after the last one that came.
    let mut next: Vec<u64> = generations.iter().map(|generation| generation.first).collect();
    for content in site.contents("a/b") {
        let number: u64 = content.split(' ').next().unwrap().parse().unwrap();
        assert_eq!(content, line(number).trim_end_matches('\n'));
        times[number as usize] += 1;
        let next = &mut next[generations.partition_point(|generation| generation.first <= number) - 1];
        assert!(number <= *next, "{number} came before {next} of the same file");
        *next = (*next).max(number + 1);
    }
    let lost: Vec<_> = (0..written).filter(|number| times[*number as usize] == 0).take(10).collect();
    assert_eq!(lost, [0; 0], "the first lines that are lost, of {written}");

    let ends = generations.iter().skip(1).map(|generation| generation.first).chain([written]);
    for (Generation { inode, first }, end) in generations.iter().zip(ends) {
        let mut start = 0;
        for number in *first..end {
            let may_come_again =
                |kill: &&Kill| number < kill.written && kill.settled.get(inode).is_none_or(|settled| *settled <= start);
            let allowed = 1 + kills.iter().filter(may_come_again).count();
            let came = times[number as usize];
            assert!(came <= allowed, "{number} came {came} times; unsettled at {} kills", allowed - 1);
            start += line(number).len() as u64;
        }
    }
}
