//! The sink `file` where it rotates, compresses and syncs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use flate2::read::MultiGzDecoder;

use crate::harness::{Site, beside, contents, numbered, numbers, parse};

/// The logstore `a/b` of raw lines, and a sink with these keys beside its path.
fn configure(site: &Site, path: &str, keys: &str) {
    site.write(
        "weir.yaml",
        format!(
            "data_dir: data
logstores:
  - {{ name: a/b, files: {{ root: logs, poll_interval: 50ms }}, sink: out }}
sinks:
  out: {{ type: file, path: '{path}', {keys} }}
"
        ),
    );
}

/// What files have in them, by their names without what compression adds. The one that is written to comes last.
fn outputs(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut outputs = BTreeMap::new();
    for name in names(dir) {
        // It may have got another name since.
        let Ok(mut file) = File::open(dir.join(&name)) else { continue };
        let mut bytes = Vec::new();
        let plain = match name.rsplit_once('.') {
            Some((_, "part")) => continue,
            Some((plain, "gz")) => MultiGzDecoder::new(file).read_to_end(&mut bytes).map(|_| plain),
            Some((plain, "zst")) => {
                zstd::stream::read::Decoder::new(file).unwrap().read_to_end(&mut bytes).map(|_| plain)
            }
            _ => file.read_to_end(&mut bytes).map(|_| &*name),
        };
        let plain = plain.unwrap_or_else(|error| panic!("{name}: {error}"));
        // `b.ndjson` sorts before `b.ndjson-…`, and is the newest.
        let key = if plain.ends_with(".ndjson") { format!("{plain}~") } else { plain.to_owned() };
        outputs.insert(key, bytes);
    }
    outputs
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// The contents of all events, from the oldest file to the newest.
fn all(dir: &Path) -> Vec<String> {
    outputs(dir).values().flat_map(|bytes| contents(&parse(bytes))).collect()
}

/// Lines that take some space.
fn lines(range: std::ops::Range<u64>) -> String {
    range.map(|number| format!("{number:09} {}\n", "x".repeat(90))).collect()
}

fn sequence(contents: &[String]) -> Vec<u64> {
    contents.iter().map(|content| content[..9].parse().unwrap()).collect()
}

#[test]
fn every_line_is_once_in_files_that_are_rotated_and_compressed() {
    for (keys, extension) in [
        ("rotate: { size: 256KiB, keep: 1000 }", "Z"),
        ("rotate: { size: 256KiB, keep: 1000 }, compression: gzip, sync: payload", ".gz"),
        ("rotate: { size: 256KiB, keep: 1000 }, compression: zstd, sync: interval", ".zst"),
    ] {
        let site = Site::new();
        configure(&site, "out/{project}/{logstore}.ndjson", keys);
        let mut agent = site.start();
        for part in 0..20_u64 {
            site.append("logs/a.log", lines(part * 1000..(part + 1) * 1000));
            if part % 5 == 4 {
                agent.wait("what was written", |site| all_in(site).len() as u64 >= (part + 1) * 1000);
            }
        }
        agent.stop().assert_counts("a/b", [20_000, 20_000, 0, 0]);
        let found = outputs(&site.path("out/a"));
        assert!(found.len() >= 8, "{:?}", found.keys());
        let names = names(&site.path("out/a"));
        assert!(names.iter().all(|name| name == "b.ndjson" || name.ends_with(extension)), "{names:?}");
        assert_eq!(names.len(), found.len());
        // A payload is in one file, also if it is larger.
        assert!(found.values().all(|bytes| bytes.len() < 1 << 20));
        assert!(
            sequence(&all(&site.path("out/a"))).into_iter().eq(0..20_000),
            "some are lost, doubled or out of order"
        );
    }
}

#[test]
fn only_so_many_files_are_kept() {
    let site = Site::new();
    configure(&site, "out/{project}/{logstore}.ndjson", "rotate: { size: 64KiB, keep: 2 }, compression: gzip");
    site.write("out/a/b.ndjson-notes", "mine\n");
    for part in 0..10 {
        site.append("logs/a.log", lines(part * 1000..(part + 1) * 1000));
        site.run();
    }
    let found = outputs(&site.path("out/a"));
    assert_eq!(found.len(), 4, "{:?}", found.keys());
    assert_eq!(found["b.ndjson-notes"], b"mine\n");
    let kept: Vec<_> = found.iter().filter(|(name, _)| *name != "b.ndjson-notes").collect();
    let kept: Vec<_> = kept.into_iter().flat_map(|(_, bytes)| sequence(&contents(&parse(bytes)))).collect();
    assert!(kept.last() == Some(&9999) && kept.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{:?}", kept.first());
}

#[test]
fn a_file_is_rotated_by_its_age() {
    let site = Site::new();
    configure(&site, "out/{project}/{logstore}.ndjson", "rotate: { age: 1s }");
    let mut agent = site.start();
    site.append("logs/a.log", numbers(0..10));
    agent.wait_for_lines("a/b", 10);
    let mut next = 10;
    agent.wait("another file", |site| {
        site.append("logs/a.log", numbers(next..next + 1));
        next += 1;
        thread::sleep(Duration::from_millis(20));
        outputs(&site.path("out/a")).len() > 1
    });
    agent.stop().assert_counts("a/b", [next, next, 0, 0]);
    assert_eq!(all(&site.path("out/a")), numbered(0..next));
}

#[test]
fn a_path_has_the_date_in_it() {
    let site = Site::new();
    configure(&site, "out/{date}/{project}/{logstore}-{hour}.ndjson", "");
    site.write("logs/a.log", numbers(0..10));
    let before = jiff::Timestamp::now();
    site.run();
    // It may have become another hour.
    let found = [before, jiff::Timestamp::now()]
        .into_iter()
        .find_map(|time| fs::read(site.path(time.strftime("out/%Y-%m-%d/a/b-%H.ndjson").to_string())).ok());
    assert_eq!(contents(&parse(&found.expect("a file by that name"))), numbered(0..10));
}

#[test]
fn a_file_that_somebody_else_renames_or_deletes_is_begun_anew() {
    let site = Site::new();
    configure(&site, "out/{project}/{logstore}.ndjson", "");
    let mut agent = site.start();
    let out = site.path("out/a/b.ndjson");
    let written = AtomicU64::new(0);
    let (renamed, ()) = beside(
        |is_done| {
            let mut renamed = 0;
            while !is_done.load(Ordering::Relaxed) {
                thread::sleep(Duration::from_millis(300));
                if fs::rename(&out, site.path(format!("out/a/b.ndjson-{renamed:03}"))).is_ok() {
                    renamed += 1;
                }
            }
            renamed
        },
        || {
            let mut next = 0;
            agent.wait("four files", |site| {
                site.append("logs/a.log", numbers(next..next + 50));
                next += 50;
                thread::sleep(Duration::from_millis(5));
                outputs(&site.path("out/a")).len() > 4
            });
            written.store(next, Ordering::Relaxed);
        },
    );
    let next = written.into_inner();
    assert!(renamed >= 3);
    // Nothing is renamed any more; but it may just have been.
    let mut next = {
        let mut next = next;
        agent.wait("the file", |site| {
            site.append("logs/a.log", numbers(next..next + 1));
            next += 1;
            thread::sleep(Duration::from_millis(20));
            out.exists()
        });
        next
    };
    let everything = |site: &Site, count: u64| all_in(site).len() as u64 >= count;
    agent.wait("everything", |site| everything(site, next));
    assert_eq!(all_in(&site), numbered(0..next));
    // What was written to a file that is deleted is lost with it; what comes later is not.
    fs::remove_file(&out).unwrap();
    agent.wait("a new file", |site| {
        site.append("logs/a.log", numbers(next..next + 1));
        next += 1;
        thread::sleep(Duration::from_millis(20));
        out.exists()
    });
    agent.stop().assert_counts("a/b", [next, next, 0, 0]);
    assert_eq!(contents(&parse(&fs::read(&out).unwrap())).last(), Some(&(next - 1).to_string()));
}

/// Looks twice, as files are renamed meanwhile.
fn all_in(site: &Site) -> Vec<String> {
    loop {
        let (first, second) = (outputs(&site.path("out/a")), outputs(&site.path("out/a")));
        if first == second && first.values().all(|bytes| bytes.is_empty() || bytes.ends_with(b"\n")) {
            return first.values().flat_map(|bytes| contents(&parse(bytes))).collect();
        }
    }
}

#[test]
fn kills_while_files_are_rotated_and_compressed_lose_nothing() {
    let site = Site::new();
    let keys = "rotate: { size: 128KiB, keep: 1000 }, compression: gzip, sync: payload";
    configure(&site, "out/{project}/{logstore}.ndjson", keys);
    let mut random = fastrand::Rng::new();
    let written = AtomicU64::new(0);
    beside(
        |is_done| {
            while !is_done.load(Ordering::Relaxed) {
                let next = written.load(Ordering::Relaxed);
                site.append("logs/a.log", lines(next..next + 100));
                written.store(next + 100, Ordering::Relaxed);
                thread::sleep(Duration::from_millis(3));
            }
        },
        || {
            for _ in 0..10 {
                let mut agent = site.start();
                let before = outputs_len(&site);
                agent.wait("another file", |site| outputs_len(site) > before);
                thread::sleep(Duration::from_millis(random.u64(0..100)));
                agent.kill();
            }
        },
    );
    site.run();
    let names = names(&site.path("out/a"));
    assert!(names.iter().all(|name| name == "b.ndjson" || name.ends_with("Z.gz")), "{names:?}");
    let mut sequence = sequence(&all(&site.path("out/a")));
    sequence.sort();
    sequence.dedup();
    assert!(sequence.into_iter().eq(0..written.into_inner()), "some are lost");
}

/// How many files were put aside so far; of one that is being compressed there are several.
fn outputs_len(site: &Site) -> usize {
    let stamp = |name: String| name.chars().take("b.ndjson-00000000T000000.000000Z".len()).collect::<String>();
    names(&site.path("out/a")).into_iter().map(stamp).collect::<BTreeSet<_>>().len()
}
