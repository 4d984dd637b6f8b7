//! Who is beside the victim.

use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use weir::mock::{Generator, LogType};

use crate::agent::Site;
use crate::bomb;
use crate::relay;
use crate::report::Row;
use crate::victim;

/// Bytes that each of the attacker's files has before it begins: more than it can work through.
const BACKLOG: usize = 96 << 20;

/// Files of the attacker.
const FILES: usize = 50;

/// Bytes that each writer of a flood adds every 10 ms.
const FLOOD: usize = 10 << 10;

/// What is searched for in each line of the flood.
const PATTERN: &str =
    r#"^(?<remote_addr>\S+) - (?<remote_user>\S+) \[(?<time_local>[^\]]+)\] "(?<request>[^"]+)" (?<status>\d+)"#;

/// Bytes of the component that is uploaded.
const UPLOAD: usize = 18 << 20;

/// Tenants that have nothing to do.
const IDLE: usize = 500;

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Attack {
    /// Nobody
    Alone,
    /// 50 writers, more than can be worked through
    Flood,
    /// A plugin that never returns
    Spin,
    /// A plugin that traps on everything
    Trap,
    /// A plugin that takes all the memory that it may have
    Hog,
    /// A sink that never answers
    Stuck,
    /// 500 tenants that have nothing to do
    Idle,
    /// An upload of a component of 18 MB
    Upload,
}

impl Attack {
    /// As it stands in the table.
    pub fn name(self) -> &'static str {
        match self {
            Attack::Alone => "alone",
            Attack::Flood => "a flood of 50 writers",
            Attack::Spin => "a plugin that spins",
            Attack::Trap => "a plugin that traps",
            Attack::Hog => "a plugin that hogs memory",
            Attack::Stuck => "a sink that never answers",
            Attack::Idle => "500 idle tenants",
            Attack::Upload => "an upload of 18 MB",
        }
    }

    fn logstores(self, site: &Site) -> String {
        let noisy = |plugin: &str, sink: &str| {
            let root = &site.noisy;
            format!("  - {{ name: noisy/logs, files: {{ root: {root:?} }}, plugins: [{plugin}], sink: {sink} }}\n")
        };
        let evil = |mode: &str| format!("{{ use: weir-evil, settings: {{ mode: {mode} }} }}");
        let nginx = "{ use: nginx, settings: { format: main } }";
        match self {
            Attack::Alone | Attack::Upload => String::new(),
            Attack::Flood => noisy(&format!("{{ use: regex, settings: {{ pattern: '{PATTERN}' }} }}"), "nowhere"),
            Attack::Spin => noisy(&evil("spin"), "nowhere"),
            Attack::Trap => noisy(&evil("panic"), "nowhere"),
            Attack::Hog => noisy(&evil("grow"), "nowhere"),
            Attack::Stuck => noisy(nginx, "stuck"),
            Attack::Idle => (0..IDLE).fold(String::new(), |mut text, number| {
                let root = site.path(&format!("idle/{number}"));
                let name = format!("idle{number}/logs");
                let _ = writeln!(
                    text,
                    "  - {{ name: {name}, files: {{ root: {root:?} }}, plugins: [{nginx}], sink: nowhere }}"
                );
                text
            }),
        }
    }

    fn has_backlog(self) -> bool {
        matches!(self, Attack::Flood | Attack::Spin | Attack::Trap | Attack::Hog | Attack::Stuck)
    }
}

/// Measures the victim beside an attacker.
pub fn run(attack: Attack, site: &Site, rate: f64, length: Duration) -> anyhow::Result<Row> {
    for dir in ["victim", "out/victim"] {
        fs::create_dir_all(site.path(dir))?;
    }
    let input = site.path("victim/access.log");
    fs::write(&input, "")?;
    for number in 0..if attack == Attack::Idle { IDLE } else { 0 } {
        fs::create_dir_all(site.path(&format!("idle/{number}")))?;
        fs::write(site.path(&format!("idle/{number}/a.log")), "")?;
    }
    if attack.has_backlog() {
        write_backlog(&site.noisy)?;
    }
    let component =
        (attack == Attack::Upload).then(|| bomb::large_plugin(&site.plugin("nginx"), UPLOAD)).transpose()?;

    let agent = site.start("  noisy: { share: 1, memory: 128MiB }", &attack.logstores(site))?;
    let is_over = AtomicBool::new(false);
    let (seen, relay) = thread::scope(|scope| {
        if attack.has_backlog() {
            for number in 0..FILES {
                let (path, is_over) = (site.noisy.join(format!("{number}.log")), &is_over);
                scope.spawn(move || flood(&path, number, is_over));
            }
        }
        if let Some(component) = &component {
            scope.spawn(|| upload(site, component, &is_over));
        }
        let relay = scope.spawn(|| relay::measure(&is_over));
        let seen = victim::measure(&input, &site.path("out/victim/access.ndjson"), rate, length);
        is_over.store(true, Ordering::Relaxed);
        let relay = relay.join().expect("it does not panic");
        anyhow::Ok((seen?, relay?))
    })?;
    let ended = agent.stop()?;
    let victim = ended.logstores["victim/access"];
    anyhow::ensure!(
        victim.delivered == seen.latencies.len() as u64 && victim.kept_raw == 0,
        "the victim's accounts are {victim:?}, and {} lines came out",
        seen.latencies.len()
    );
    Ok(Row::new(attack.name(), &seen, &relay, &ended))
}

/// Lines as the victim's, in many files, as they were at first.
fn write_backlog(dir: &Path) -> anyhow::Result<()> {
    let path = |number: usize| dir.join(format!("{number}.log"));
    if path(FILES - 1).exists() {
        for number in 0..FILES {
            OpenOptions::new().write(true).open(path(number))?.set_len(BACKLOG as u64)?;
        }
        return Ok(());
    }
    let mut generator = Generator::new(LogType::Nginx, 2);
    let mut bytes = Vec::with_capacity(BACKLOG + 4096);
    while bytes.len() < BACKLOG {
        generator.next(&mut bytes);
    }
    (0..FILES).try_for_each(|number| Ok(fs::write(path(number), &bytes[..BACKLOG])?))
}

fn flood(path: &Path, seed: usize, is_over: &AtomicBool) -> std::io::Result<()> {
    let mut generator = Generator::new(LogType::Nginx, seed as u64);
    let mut bytes = Vec::new();
    while bytes.len() < FLOOD {
        generator.next(&mut bytes);
    }
    let mut file = OpenOptions::new().append(true).open(path)?;
    while !is_over.load(Ordering::Relaxed) {
        file.write_all(&bytes)?;
        thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// Has the component compiled again and again, in a child as the agent's.
fn upload(site: &Site, component: &[u8], is_over: &AtomicBool) -> anyhow::Result<()> {
    let path = site.path("large.wasm");
    fs::write(&path, component)?;
    while !is_over.load(Ordering::Relaxed) {
        let cache = tempfile::tempdir_in(site.path(""))?;
        let mut child = site
            .weir()
            .args(["pipe", "--plugin"])
            .arg(&path)
            .env("XDG_CACHE_HOME", cache.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        while child.try_wait()?.is_none() {
            if is_over.load(Ordering::Relaxed) {
                child.kill()?;
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
    Ok(())
}
