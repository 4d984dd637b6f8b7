//! How far files were read: looked at, and damaged.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;

use crate::harness::{Done, Site, numbered, numbers, raw};

/// The numbers of the table's row of a file.
fn row(done: &Done, site: &Site, name: &str) -> Vec<u64> {
    done.assert_code(0);
    let path = site.path(name).display().to_string();
    let mut rows = done.text().lines().filter_map(|line| line.split_once(&path));
    let (_, rest) = rows.next().unwrap_or_else(|| panic!("no row of {name} in:\n{}", done.text()));
    assert!(rows.next().is_none(), "{name} has several rows in:\n{}", done.text());
    rest.split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse().ok()).collect()
}

fn checkpoints(site: &Site) -> Done {
    site.output(["checkpoints", "-c", "weir.yaml"])
}

#[test]
fn checkpoints_are_told_of_in_words() {
    let site = Site::new();
    site.config(&raw("include: [\"*\"]"));
    site.write("logs/all.log", numbers(0..10));
    site.write("logs/some.log", numbers(0..10));
    site.run().assert_counts("a/b", [20, 20, 0, 0]);
    site.append("logs/some.log", numbers(0..5));
    let done = checkpoints(&site);
    assert_eq!(row(&done, &site, "logs/all.log"), [20, 20]);
    // Settled, the size, and what is left.
    assert_eq!(row(&done, &site, "logs/some.log"), [20, 30, 10]);
    assert!(done.text().contains("a/b"), "{}", done.text());
    // Asking changes nothing.
    site.run().assert_counts("a/b", [5, 5, 0, 0]);
}

#[test]
fn checkpoints_can_be_asked_for_while_the_agent_runs() {
    let site = Site::new();
    site.config(&raw("include: [\"*\"]"));
    site.write("logs/a.log", numbers(0..10));
    let mut agent = site.start();
    agent.wait_for_lines("a/b", 10);
    let name = site.path("logs/a.log").display().to_string();
    let told = |site: &Site| {
        let done = checkpoints(site);
        done.assert_code(0);
        done.text().contains(&name)
    };
    agent.wait("a row", told);
    assert_eq!(row(&checkpoints(&site), &site, "logs/a.log"), [20, 20]);
    site.append("logs/a.log", numbers(0..5));
    agent.wait("all of it settled", |site| row(&checkpoints(site), site, "logs/a.log") == [30, 30]);
    // The agent has not been disturbed.
    agent.stop().assert_counts("a/b", [15, 15, 0, 0]);
    site.run().assert_counts("a/b", [0, 0, 0, 0]);
}

#[test]
fn without_a_checkpoint_there_is_nothing_to_tell() {
    let site = Site::new();
    site.config(&raw("include: [\"*\"]"));
    checkpoints(&site).assert_code(0);
    site.write("logs/a.log", "a\n");
    site.run().assert_counts("a/b", [1, 1, 0, 0]);
}

type Damage<'a> = &'a dyn Fn(&fs::File);

/// A site whose files were read and whose checkpoint is damaged then; more is written meanwhile. Gives what the next
/// run says.
fn run_after(damage: impl FnOnce(&fs::File)) -> (Site, Done) {
    let site = Site::new();
    site.config(&raw("include: [\"*\"]"));
    for name in ["a", "b", "c"] {
        site.write(&format!("logs/{name}.log"), lines(name, 0..500));
    }
    site.run().assert_counts("a/b", [1500, 1500, 0, 0]);
    let file = OpenOptions::new().read(true).write(true).open(site.path("data/checkpoint.redb")).unwrap();
    damage(&file);
    for name in ["a", "b", "c"] {
        site.append(&format!("logs/{name}.log"), lines(name, 500..600));
    }
    let ran = site.run();
    // Nothing is lost, and nothing comes twice.
    ran.assert_counts("a/b", [300, 300, 0, 0]);
    let all = site.contents("a/b");
    for name in ["a", "b", "c"] {
        let of = all.iter().filter_map(|line| line.strip_prefix(name)).collect::<Vec<_>>();
        assert!(of == numbered(0..600), "lines of {name} are lost, doubled or out of order");
    }
    (site, ran.done)
}

fn lines(name: &str, range: std::ops::Range<u64>) -> String {
    range.map(|number| format!("{name}{number}\n")).collect()
}

#[test]
fn a_checkpoint_that_is_damaged_is_set_aside_and_its_backup_used() {
    let garbage = |file: &fs::File| {
        let size = file.metadata().unwrap().len();
        let bytes: Vec<u8> = (0..size).map(|at| (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u8).collect();
        file.write_all_at(&bytes, 0).unwrap();
    };
    let halved = |file: &fs::File| file.set_len(file.metadata().unwrap().len() / 2).unwrap();
    let cut = |file: &fs::File| file.set_len(100).unwrap();
    let zeros = |file: &fs::File| {
        let size = file.metadata().unwrap().len();
        file.set_len(0).unwrap();
        file.set_len(size).unwrap();
    };
    let damages: [(&str, Damage); 4] = [("garbage", &garbage), ("halved", &halved), ("cut", &cut), ("zeros", &zeros)];
    for (what, damage) in damages {
        let (site, done) = run_after(damage);
        done.assert_says("checkpoint.redb.damaged-");
        let aside = |entry: std::io::Result<fs::DirEntry>| {
            entry.unwrap().file_name().to_string_lossy().starts_with("checkpoint.redb.damaged-")
        };
        assert_eq!(fs::read_dir(site.path("data")).unwrap().map(aside).filter(|is| *is).count(), 1, "{what}");
        let next = site.run();
        next.assert_counts("a/b", [0, 0, 0, 0]);
        assert!(!next.stderr.contains("damaged"), "{what}: {}", next.stderr);
    }
}

#[test]
fn a_byte_that_has_flipped_anywhere_costs_nothing() {
    const FLIPS: usize = 24;
    for flip in 0..FLIPS {
        let one = |file: &fs::File| {
            let mut bytes = vec![0; file.metadata().unwrap().len() as usize];
            file.read_exact_at(&mut bytes, 0).unwrap();
            // Where there is something; most of it is empty.
            let used: Vec<_> = (0..bytes.len()).filter(|at| bytes[*at] != 0).collect();
            let at = used[used.len() * flip / FLIPS];
            file.write_all_at(&[bytes[at] ^ 0x55], at as u64).unwrap();
            println!("flip {flip}: byte {at} of {}", bytes.len());
        };
        run_after(one);
    }
}
