use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, Mutex};

use super::disk::{Disk, Room, UNFINISHED};
use super::versions::{By, Canary, Choice, New, Refused, Registry, Version, hex_digest};
use crate::config::LogstoreName;

fn name(text: &str) -> LogstoreName {
    text.parse().unwrap()
}

fn add(registry: &Registry, logstore: &str, bytes: &[u8]) -> Result<Version, Refused> {
    let settings = serde_json::json!({ "z": 1, "a": [1.5] });
    let new =
        New { bytes, name: "p", plugin_version: "1.0", settings: &settings, by: By::Project, signature: None, most: 3 };
    registry.add(&name(logstore), &new)
}

#[test]
fn versions_come_and_go_and_are_chosen() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("registry");
    let registry = Registry::open(&root).unwrap();
    let shop = name("shop/access");
    let choice = |active, before, canary: Option<(u64, u8)>| Choice {
        active,
        before,
        canary: canary.map(|(version, percent)| Canary { version, percent }),
    };
    let refused = |result: Result<Choice, Refused>| result.unwrap_err().to_string();
    assert_eq!(registry.list(&shop).unwrap(), (Choice::default(), vec![]));
    assert_eq!(refused(registry.rollback(&shop)), "there is no version to go back to");
    assert_eq!(refused(registry.activate(&shop, 1)), "there is no version 1: see the list of versions");

    let first = add(&registry, "shop/access", b"one").unwrap();
    assert_eq!((first.number, first.size, &*first.digest), (1, 3, &*hex_digest(b"one")));
    // The same once more is the same.
    assert_eq!(add(&registry, "shop/access", b"one").unwrap(), first);
    assert_eq!(add(&registry, "shop/access", b"two").unwrap().number, 2);
    assert_eq!(add(&registry, "shop/other", b"two").unwrap().number, 1);
    assert_eq!(add(&registry, "shop/access", b"three").unwrap().number, 3);
    let full = add(&registry, "shop/access", b"four").unwrap_err().to_string();
    assert_eq!(full, "there are 3 versions already, which is as many as are kept: remove one first");

    assert_eq!(registry.activate(&shop, 1).unwrap(), choice(1, Some(0), None));
    assert_eq!(registry.activate(&shop, 1).unwrap(), choice(1, Some(0), None));
    assert_eq!(registry.begin_canary(&shop, Canary { version: 2, percent: 10 }).unwrap(), {
        choice(1, Some(0), Some((2, 10)))
    });
    for number in [1, 2] {
        let error = registry.remove(&shop, number).unwrap_err().to_string();
        assert_eq!(error, format!("version {number} is in use: activate another one first"));
    }
    // Of another trial nothing is said.
    let tried = registry.choice(&shop).unwrap().canary.unwrap();
    let other = Canary { percent: tried.percent + 1, ..tried };
    assert!(!registry.judge(&shop, other, Ok(())).unwrap() && !registry.judge(&shop, other, Err("no")).unwrap());
    assert_eq!(registry.choice(&shop).unwrap(), choice(1, Some(0), Some((tried.version, tried.percent))));
    assert!(registry.judge(&shop, tried, Err("it fails more")).unwrap());
    assert_eq!(registry.choice(&shop).unwrap(), choice(1, Some(0), None));
    // It is over: what went well is not begun again.
    assert!(!registry.judge(&shop, tried, Ok(())).unwrap());
    assert_eq!(registry.choice(&shop).unwrap(), choice(1, Some(0), None));
    assert_eq!(registry.version(&shop, 2).unwrap().note.as_deref(), Some("it fails more"));
    registry.begin_canary(&shop, Canary { version: 2, percent: 99 }).unwrap();
    assert_eq!(registry.version(&shop, 2).unwrap().note, None);
    assert_eq!(registry.activate(&shop, 2).unwrap(), choice(2, Some(1), None));
    assert_eq!(registry.rollback(&shop).unwrap(), choice(1, Some(2), None));
    assert_eq!(registry.rollback(&shop).unwrap(), choice(2, Some(1), None));
    registry.begin_canary(&shop, Canary { version: 3, percent: 1 }).unwrap();
    assert_eq!(registry.rollback(&shop).unwrap(), choice(2, Some(1), None));
    assert_eq!(registry.version(&shop, 3).unwrap().note.as_deref(), Some("rolled back"));
    let error = refused(registry.begin_canary(&shop, Canary { version: 3, percent: 100 }));
    assert_eq!(error, "a canary runs on 1 to 99 percent of the files, not on 100");

    let error = refused(registry.begin_canary(&shop, Canary { version: 2, percent: 10 }));
    assert_eq!(error, "version 2 is active already: a canary tries another one");

    // Numbers are not used again, and what nobody names is gone.
    registry.remove(&shop, 3).unwrap();
    assert_eq!(add(&registry, "shop/access", b"three").unwrap().number, 4);
    registry.remove(&shop, 1).unwrap();
    assert_eq!(refused(registry.rollback(&shop)), "there is no version to go back to");
    registry.remove(&shop, 4).unwrap();
    assert_eq!(registry.activate(&shop, 0).unwrap(), choice(0, Some(2), None));
    registry.remove(&shop, 2).unwrap();
    let blobs: Vec<_> = std::fs::read_dir(root.join("blobs")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(blobs, [format!("{}.wasm", hex_digest(b"two")).as_str()]);
    assert_eq!(add(&registry, "shop/access", b"five").unwrap().number, 5);

    // All of that is there for the next one.
    let before = registry.list(&shop).unwrap();
    let registry = Registry::open(&root).unwrap();
    assert_eq!(registry.list(&shop).unwrap(), before);
    assert_eq!(registry.blob(&hex_digest(b"five")).unwrap(), b"five");
}

#[test]
fn nobody_else_may_look_and_damage_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("registry");
    let registry = Registry::open(&root).unwrap();
    let version = add(&registry, "a/b", b"one").unwrap();
    add(&registry, "c/d", b"one").unwrap();
    let mode = |path: &str| std::fs::metadata(root.join(path)).unwrap().permissions().mode() & 0o777;
    let blob = format!("blobs/{}.wasm", version.digest);
    assert_eq!([mode(""), mode("blobs"), mode("logstores")], [0o700; 3]);
    assert_eq!([mode("logstores/a+b.json"), mode(&blob)], [0o600; 2]);

    std::fs::write(root.join(&blob), "0ne").unwrap();
    let error = registry.blob(&version.digest).unwrap_err().to_string();
    assert_eq!(error, format!("the uploaded plugin {} is damaged on disk: upload it again", version.digest));
    // That mends it.
    assert_eq!(add(&registry, "a/b", b"one").unwrap(), version);
    assert_eq!(registry.blob(&version.digest).unwrap(), b"one");

    // A record that is damaged is its logstore's trouble alone.
    let record = std::fs::read_to_string(root.join("logstores/a+b.json")).unwrap();
    for damage in [&record[..record.len() / 2], "", &record.replace("\"active\": 0", "\"active\": 7")] {
        std::fs::write(root.join("logstores/a+b.json"), damage).unwrap();
        std::fs::set_permissions(&root, std::fs::Permissions::from_mode(0o770)).unwrap();
        let registry = Registry::open(&root).unwrap();
        assert_eq!(mode(""), 0o700);
        let error = registry.choice(&name("a/b")).unwrap_err().to_string();
        assert!(error.starts_with("the registry's file logstores/a+b.json cannot be used: "), "{error}");
        assert!(add(&registry, "a/b", b"two").is_err());
        assert_eq!(registry.list(&name("c/d")).unwrap().1.len(), 1);
        assert_eq!(registry.blob(&version.digest).unwrap(), b"one");
    }
}

/// A disk that fails from some step on, and forgets what was not synced.
#[derive(Clone, Default)]
struct Simulated(Arc<Mutex<World>>);

/// Names, and the numbers of their files.
type Names = BTreeMap<(Room, String), usize>;

#[derive(Default)]
struct World {
    now: Names,
    /// What is on disk of the names, and what has changed since then.
    synced: Names,
    changes: Vec<(Room, Names)>,
    files: Vec<(Vec<u8>, bool)>,
    /// Steps before it fails.
    steps: Option<usize>,
}

impl World {
    fn step(&mut self) -> io::Result<()> {
        match &mut self.steps {
            Some(0) => return Err(io::Error::other("killed")),
            Some(steps) => *steps -= 1,
            None => {}
        }
        Ok(())
    }

    fn changed(&mut self, room: Room) {
        self.changes.push((room, self.now.clone()));
    }

    /// What is there after the process was killed; or after a power failure, which takes what was not synced.
    fn crash(&mut self, has_power: bool, random: &mut fastrand::Rng) {
        self.steps = None;
        if has_power {
            return;
        }
        let mut left = self.synced.clone();
        for room in [Room::Blobs, Room::Logstores] {
            let changes: Vec<_> = self.changes.iter().filter(|(of, _)| *of == room).collect();
            if let Some(kept) = random.usize(0..=changes.len()).checked_sub(1) {
                left.retain(|(of, _), _| *of != room);
                left.extend(changes[kept].1.iter().filter(|((of, _), _)| *of == room).map(|(k, v)| (k.clone(), *v)));
            }
        }
        (self.now, self.synced) = (left.clone(), left);
        self.changes.clear();
        for (bytes, is_synced) in &mut self.files {
            if !std::mem::replace(is_synced, true) {
                bytes.truncate(random.usize(0..=bytes.len()));
            }
        }
    }
}

impl Disk for Simulated {
    fn list(&self, room: Room) -> io::Result<Vec<String>> {
        let world = self.0.lock().unwrap();
        Ok(world.now.keys().filter(|(of, _)| *of == room).map(|(_, name)| name.clone()).collect())
    }

    fn read(&self, room: Room, name: &str, _: u64) -> io::Result<Vec<u8>> {
        let mut world = self.0.lock().unwrap();
        world.step()?;
        let file = world.now.get(&(room, name.to_owned())).ok_or(io::ErrorKind::NotFound)?;
        Ok(world.files[*file].0.clone())
    }

    fn write(&self, room: Room, bytes: &[u8]) -> io::Result<String> {
        let mut world = self.0.lock().unwrap();
        world.step()?;
        let file = world.files.len();
        let name = format!("{UNFINISHED}{file}");
        world.files.push((Vec::new(), false));
        world.now.insert((room, name.clone()), file);
        world.changed(room);
        for part in bytes.chunks(bytes.len().div_ceil(2).max(1)) {
            world.step()?;
            world.files[file].0.extend_from_slice(part);
        }
        world.step()?;
        world.files[file].1 = true;
        Ok(name)
    }

    fn rename(&self, room: Room, from: &str, to: &str) -> io::Result<()> {
        let mut world = self.0.lock().unwrap();
        world.step()?;
        let file = world.now.remove(&(room, from.to_owned())).ok_or(io::ErrorKind::NotFound)?;
        world.now.insert((room, to.to_owned()), file);
        world.changed(room);
        Ok(())
    }

    fn remove(&self, room: Room, name: &str) -> io::Result<()> {
        let mut world = self.0.lock().unwrap();
        world.step()?;
        world.now.remove(&(room, name.to_owned())).ok_or(io::ErrorKind::NotFound)?;
        world.changed(room);
        Ok(())
    }

    fn sync(&self, room: Room) -> io::Result<()> {
        let mut world = self.0.lock().unwrap();
        world.step()?;
        let now: Vec<_> = world.now.iter().filter(|((of, _), _)| *of == room).map(|(k, v)| (k.clone(), *v)).collect();
        world.synced.retain(|(of, _), _| *of != room);
        world.synced.extend(now);
        world.changes.retain(|(of, _)| *of != room);
        Ok(())
    }
}

const LOGSTORES: [&str; 2] = ["a/b", "c/d"];

/// One change, the same for the same random numbers. Whether it was made.
fn change(registry: &Registry, random: &mut fastrand::Rng) -> Result<(), Refused> {
    let logstore = LOGSTORES[random.usize(0..2)];
    let (shop, number, percent) = (name(logstore), random.u64(0..8), random.u8(1..100));
    match random.u8(0..8) {
        0..=2 => add(registry, logstore, &[random.u8(0..5)]).map(drop),
        3 => registry.activate(&shop, number).map(drop),
        4 => registry.begin_canary(&shop, Canary { version: number, percent }).map(drop),
        5 => match registry.choice(&shop).unwrap().canary {
            Some(canary) => registry.judge(&shop, canary, Err("why")).map(drop),
            None => Ok(()),
        },
        6 => registry.rollback(&shop).map(drop),
        _ => registry.remove(&shop, number),
    }
}

type Lists = Vec<(Choice, Vec<Version>)>;

fn lists(registry: &Registry) -> Lists {
    let mut lists: Lists = LOGSTORES.iter().map(|logstore| registry.list(&name(logstore)).unwrap()).collect();
    let versions = lists.iter_mut().flat_map(|(_, versions)| versions);
    versions.for_each(|version| version.pushed_at.clear());
    lists
}

#[test]
fn a_crash_at_any_step_leaves_what_was_before_or_after() {
    let (mut cut_short, mut made) = (0, 0);
    for seed in 0..4000 {
        let mut random = fastrand::Rng::with_seed(seed);
        let (disk, whole) = (Simulated::default(), Simulated::default());
        let registry = Registry::on(Box::new(disk.clone())).unwrap();
        let oracle = Registry::on(Box::new(whole)).unwrap();
        disk.0.lock().unwrap().steps = Some(random.usize(0..150));
        let mut before = lists(&oracle);
        loop {
            let mut same = random.clone();
            let result = change(&registry, &mut random);
            let expected = change(&oracle, &mut same);
            let after = lists(&oracle);
            let is_cut = disk.0.lock().unwrap().steps == Some(0);
            match (&result, &expected) {
                (Err(Refused::Broken(_)), _) => {
                    assert!(is_cut, "{result:?}");
                    cut_short += 1;
                }
                _ => {
                    assert_eq!(format!("{result:?}"), format!("{expected:?}"), "{seed}");
                    // It was said to be made: it is, whatever comes.
                    before = after.clone();
                    made += 1;
                }
            }
            if !is_cut {
                continue;
            }
            disk.0.lock().unwrap().crash(random.bool(), &mut random);
            let registry = Registry::on(Box::new(disk.clone())).unwrap();
            let found = lists(&registry);
            assert!(found == before || found == after, "{seed}: {found:#?} {before:#?} {after:#?}");
            let named: BTreeSet<String> =
                found.iter().flat_map(|(_, versions)| versions.iter().map(|v| v.digest.clone())).collect();
            for digest in &named {
                registry.blob(digest).unwrap();
            }
            let kept: BTreeSet<String> = disk.list(Room::Blobs).unwrap().into_iter().collect();
            assert_eq!(kept, named.iter().map(|digest| format!("{digest}.wasm")).collect(), "{seed}");
            assert!(disk.list(Room::Logstores).unwrap().iter().all(|file| !file.starts_with(UNFINISHED)));
            break;
        }
    }
    assert!(cut_short > 1000 && made > 1000, "{cut_short} {made}");
}
