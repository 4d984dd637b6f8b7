//! Random schedules of writers, rotation, stops and kills, against a model of what must come out.
//!
//! What is written are tokens, `<log.number.part>`, each once. Of each the model knows in which contents it is and
//! where, so that it can say at the end which tokens had to come out, how often each may have, and in which order.
//! `WEIR_SEED=n` runs one schedule again, with all that happens told; `WEIR_SCHEDULES=n` sets how many are run.

mod oracle;
mod world;

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fastrand::Rng;

use crate::budget::Budget;
use crate::checkpoint::Checkpoint;
use crate::clock::Clock;
use crate::lane::orders::{Order, Orders};
use crate::lane::{Lane, Mode, Parts, Scratch};
use crate::metrics::Accounts;
use crate::sandbox::Chain;
use crate::schedule::{TakeTurn, Turn};
use crate::sink::compress::Compression;
use crate::sink::ndjson::Ndjson;
use crate::sink::outlet::{Batching, OutletParts};
use crate::sink::{Payload, Returns, Sender};
use crate::source::framing::multiline::{Patterns, Rule};
use crate::source::watch::{News, Watch};
use crate::source::{Settings, Source};
use oracle::{Oracle, Token};
use world::{Real, SECRET, Simulated, World};

const LOGSTORE: &str = "a/b";
const FLUSH_AFTER: Duration = Duration::from_secs(5);
const WAIT: Duration = Duration::from_secs(30);

/// A destination that keeps what it gets, and can be made to wait.
#[derive(Default)]
struct Sink {
    is_stalled: Mutex<bool>,
    waiting: Mutex<Vec<Payload>>,
    /// The events, in the order in which they came.
    events: Mutex<Vec<String>>,
}

impl Sender for Sink {
    fn send(&self, payload: Payload) {
        if *self.is_stalled.lock().unwrap() {
            self.waiting.lock().unwrap().push(payload);
        } else {
            self.deliver(payload);
        }
    }

    fn close(&self, _: Duration) {}
}

impl Sink {
    fn deliver(&self, payload: Payload) {
        for line in payload.body.bytes.as_slice().split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let event: serde_json::Value = serde_json::from_slice(line).expect("NDJSON");
            self.events.lock().unwrap().push(event["content"].as_str().expect("content").to_owned());
        }
        payload.delivered();
    }

    fn stall(&self, is_stalled: bool) {
        *self.is_stalled.lock().unwrap() = is_stalled;
        if !is_stalled {
            let waiting = std::mem::take(&mut *self.waiting.lock().unwrap());
            waiting.into_iter().for_each(|payload| self.deliver(payload));
        }
    }
}

/// What a schedule may have in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rotation {
    /// The globs match all generations, which are made by renaming, copying and compressing.
    AllMatch,
    /// The globs match the first generation only; others are made by renaming.
    OneMatches,
}

/// A log as its writer sees it.
struct Log {
    name: String,
    file: usize,
    next: u64,
    generation: u32,
    /// A line of which a part has been written, without its end.
    has_part: bool,
    /// A file that was renamed, and that the writer may go on with for a while.
    old: Option<usize>,
}

struct Run<'w> {
    world: &'w mut dyn World,
    random: Rng,
    rotation: Rotation,
    joins: bool,
    clock: Clock,
    checkpoint: Arc<Checkpoint>,
    sink: Arc<Sink>,
    lane: Option<(Lane, Mode)>,
    orders: Arc<Orders>,
    accounts: Arc<Accounts>,
    scratch: Scratch,
    logs: Vec<Log>,
    oracle: Oracle,
    /// Whether all that happens is told.
    tells: bool,
}

macro_rules! tell {
    ($run:expr, $($what:tt)*) => { if $run.tells { eprintln!($($what)*); } };
}

impl Run<'_> {
    fn settings(&self) -> Settings {
        let include = match self.rotation {
            Rotation::AllMatch => vec!["*.log*".to_owned()],
            Rotation::OneMatches => vec!["*.log".to_owned()],
        };
        let multiline = self.joins.then(|| Rule::new(&Patterns::Start("^#".into()), 1000).unwrap());
        let root = self.world.root();
        let mut settings = Settings { include, ..Settings::plain(&root) };
        settings.framing.multiline = multiline;
        settings.framing.flush_after = FLUSH_AFTER;
        settings.rotated.wait = WAIT;
        settings.max_open = if self.random.clone().bool() { 1000 } else { 2 };
        settings
    }

    fn start(&mut self) {
        tell!(self, "start");
        self.accounts = Arc::default();
        self.begin(0);
    }

    /// Begins a lane that is owed so many events of its accounts.
    fn begin(&mut self, owed: u64) {
        let known = self.checkpoint.load(LOGSTORE).unwrap();
        let news = News::new(Box::new(|| {}));
        let source =
            Source::on(self.world.tree(), self.settings(), known, Watch::deaf(), news, self.clock.now()).unwrap();
        let mode = Mode::default();
        // Payloads of several chunks, and chunks of several payloads.
        let batching = match self.random.clone().usize(0..3) {
            0 => Batching::LOCAL,
            1 => Batching { max_bytes: 200, max_age: Duration::from_millis(700), ..Batching::LOCAL },
            _ => Batching { max_events: 3, max_age: Duration::from_secs(2), ..Batching::LOCAL },
        };
        let lane = Lane::new(Parts {
            name: LOGSTORE.to_owned(),
            source,
            chain: Chain::default(),
            outlets: vec![OutletParts {
                encoder: Box::<Ndjson>::default(),
                compression: Compression::None,
                batching,
                sender: self.sink.clone(),
                target: Arc::new(LOGSTORE.parse().unwrap()),
            }],
            returns: Returns::new(Box::new(|| {})),
            checkpoint: self.checkpoint.clone(),
            accounts: self.accounts.clone(),
            plugins: Vec::new(),
            budget: Budget::new(None),
            pace: None,
            mode: mode.clone(),
            orders: self.orders.clone(),
            owed,
            clock: self.clock.clone(),
            tap: None,
        });
        self.lane = Some((lane, mode));
    }

    /// Some turns; whether the lane is done.
    fn turns(&mut self, count: usize) -> bool {
        let Some((lane, _)) = &mut self.lane else { return false };
        for _ in 0..count {
            match lane.turn(&mut self.scratch) {
                Turn::More => {}
                Turn::Done => return true,
                Turn::Rest | Turn::RestUntil(_) => return false,
            }
        }
        false
    }

    /// The agent ends: what was not written is forgotten.
    fn kill(&mut self) {
        tell!(self, "kill");
        self.lane = None;
        self.checkpoint.forget_unwritten();
        self.sink.waiting.lock().unwrap().clear();
        self.note_end();
    }

    fn stop(&mut self) {
        tell!(self, "stop");
        let Some((_, mode)) = &self.lane else { return };
        mode.drain();
        self.turns(1000);
        self.lane = None;
        self.checkpoint.flush().unwrap();
        self.sink.waiting.lock().unwrap().clear();
        self.note_end();
    }

    /// As when the configuration changes: a lane ends, when what it has in flight is settled or at once, and another takes
    /// its place in the same process.
    fn begin_anew(&mut self) {
        let waits = self.random.bool();
        tell!(self, "begin anew, {}", if waits { "when all is settled" } else { "at once" });
        self.orders.give(Order::Retire);
        if !waits || !self.turns(1000) {
            self.orders.give(Order::Abandon);
            assert!(self.turns(10), "an abandoned lane goes on");
        }
        self.lane = None;
        // What comes back now comes back to nobody.
        self.sink.waiting.lock().unwrap().clear();
        self.note_end();
        self.check_accounts();
        self.begin(self.accounts.in_flight.load(Ordering::Relaxed));
    }

    #[track_caller]
    fn check_accounts(&self) {
        let counts = self.accounts.summary();
        let sum: u64 =
            ["delivered", "dropped", "dead_lettered", "discarded", "in_flight"].map(|name| counts[name]).iter().sum();
        assert_eq!(counts["read"], sum, "{counts:?}");
    }

    fn note_end(&mut self) {
        let events = self.sink.events.lock().unwrap();
        let is_found = |name: &str| self.rotation == Rotation::AllMatch || name.ends_with(".log");
        self.oracle.agent_ended(&events, &self.checkpoint.load(LOGSTORE).unwrap(), is_found);
    }

    fn holds(&self, file: usize) -> bool {
        let id = self.world.id(file);
        self.lane.as_ref().is_some_and(|(lane, _)| lane.source().holds(id))
    }

    fn write(&mut self, log: usize, to_old: bool) {
        let file = if to_old { self.logs[log].old } else { Some(self.logs[log].file) };
        let Some(file) = file else { return };
        let count = if self.random.u8(..20) == 0 { self.random.usize(1000..4000) } else { self.random.usize(1..30) };
        let mut bytes = Vec::new();
        for _ in 0..count {
            let number = self.logs[log].next;
            self.logs[log].next += 1;
            let end_part = !to_old && std::mem::take(&mut self.logs[log].has_part);
            if end_part {
                let token = Token { log, number: number - 1, part: 1 };
                self.add(file, token, &mut bytes);
                bytes.push(b'\n');
            }
            if self.joins && number.is_multiple_of(3) {
                bytes.push(b'#');
            }
            self.add(file, Token { log, number, part: 0 }, &mut bytes);
            if self.random.u8(..200) == 0 {
                bytes.extend(std::iter::repeat_n(b'x', self.random.usize(..3000)));
            }
            bytes.push(b'\n');
        }
        if !to_old && !self.logs[log].has_part && self.random.u8(..8) == 0 {
            let number = self.logs[log].next;
            self.logs[log].next += 1;
            self.add(file, Token { log, number, part: 0 }, &mut bytes);
            self.logs[log].has_part = true;
        }
        let lost = to_old && self.rotation == Rotation::OneMatches && !self.holds(file);
        self.oracle.written(file, &bytes, lost);
        self.world.append(file, &bytes);
        tell!(self, "write {count} lines to {}, file {file}", self.logs[log].name);
    }

    fn add(&mut self, file: usize, token: Token, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(token.to_string().as_bytes());
        self.oracle.add(file, token, bytes.len());
    }

    /// A line without an end gets it, so that nothing of it is written to another file.
    fn end_line(&mut self, log: usize) {
        if std::mem::take(&mut self.logs[log].has_part) {
            let file = self.logs[log].file;
            self.oracle.written(file, b"\n", false);
            self.world.append(file, b"\n");
        }
    }

    fn rotate_by_rename(&mut self, log: usize) {
        self.end_line(log);
        if let Some(old) = self.logs[log].old.take() {
            self.world.close(old);
        }
        let name = self.logs[log].name.clone();
        self.logs[log].generation += 1;
        let to = format!("{name}.{}", self.logs[log].generation);
        tell!(self, "rename {name} to {to}");
        let id = self.world.id(self.logs[log].file);
        let is_known = match &self.lane {
            Some((lane, _)) => lane.source().knows(id),
            None => self.checkpoint.load(LOGSTORE).unwrap().contains_key(&id),
        };
        if self.rotation == Rotation::OneMatches && !is_known {
            self.oracle.may_miss(self.logs[log].file);
        }
        self.world.rename(&name, &to);
        self.oracle.renamed(&name, &to);
        let file = self.world.create(&name);
        self.oracle.created(file, self.world.id(file), &name);
        self.logs[log].old = Some(std::mem::replace(&mut self.logs[log].file, file));
    }

    fn rotate_by_copy(&mut self, log: usize) {
        self.end_line(log);
        let name = self.logs[log].name.clone();
        self.logs[log].generation += 1;
        let to = format!("{name}.{}", self.logs[log].generation);
        tell!(self, "copy {name} to {to}, and truncate");
        let from = self.logs[log].file;
        let copy = self.world.create(&to);
        self.oracle.created(copy, self.world.id(copy), &to);
        let bytes = self.oracle.copy(from, copy);
        let middle = self.random.usize(..=bytes.len());
        self.world.append(copy, &bytes[..middle]);
        if self.random.u8(..4) == 0 {
            self.some_turns();
        }
        self.world.append(copy, &bytes[middle..]);
        self.world.close(copy);
        if self.random.u8(..4) == 0 {
            self.some_turns();
        }
        self.world.truncate(from);
        self.oracle.truncated(from);
    }

    fn compress(&mut self, log: usize) {
        let Some(old) = self.logs[log].old.take() else { return };
        self.world.close(old);
        let Some(name) = self.oracle.name_of(old) else { return };
        let to = format!("{name}.gz");
        tell!(self, "compress {name}");
        let copy = self.world.create(&to);
        self.oracle.created(copy, self.world.id(copy), &to);
        let bytes = self.oracle.copy(old, copy);
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut encoder, &bytes).unwrap();
        let compressed = encoder.finish().unwrap();
        let middle = self.random.usize(..=compressed.len());
        self.world.append(copy, &compressed[..middle]);
        if self.random.u8(..3) == 0 {
            self.some_turns();
        }
        self.world.append(copy, &compressed[middle..]);
        self.world.close(copy);
        if self.random.u8(..3) == 0 {
            self.some_turns();
        }
        self.world.remove(&name);
        // All of it is in the other file.
        self.oracle.removed(&name, true);
    }

    fn recreate(&mut self, log: usize) {
        self.logs[log].has_part = false;
        let (name, file) = (self.logs[log].name.clone(), self.logs[log].file);
        tell!(self, "delete {name} and make it again");
        let held = self.holds(file);
        self.world.remove(&name);
        let events = self.sink.events.lock().unwrap();
        self.oracle.removed(&name, held);
        drop(events);
        self.world.close(file);
        let file = self.world.create(&name);
        self.oracle.created(file, self.world.id(file), &name);
        self.logs[log].file = file;
    }

    fn swap_link(&mut self) {
        let to = match self.random.u8(..3) {
            0 => "../secret".to_owned(),
            1 => "nowhere".to_owned(),
            _ => self.logs[self.random.usize(..self.logs.len())].name.clone(),
        };
        tell!(self, "link to {to}");
        self.world.link("link.log", &to);
    }

    fn some_turns(&mut self) {
        let count = self.random.usize(1..12);
        self.world.fetch();
        self.clock.advance(Duration::from_millis(self.random.u64(1..1500)));
        self.turns(count);
    }

    fn step(&mut self) {
        let log = self.random.usize(..self.logs.len());
        match self.random.u8(..100) {
            0..35 => self.write(log, false),
            35..40 => self.write(log, true),
            40..70 => self.some_turns(),
            70..75 => self.checkpoint.flush().unwrap(),
            75..81 => self.rotate_by_rename(log),
            81..84 if self.rotation == Rotation::AllMatch => self.rotate_by_copy(log),
            84..87 if self.rotation == Rotation::AllMatch => self.compress(log),
            87 => self.recreate(log),
            88..90 => self.swap_link(),
            90..92 => {
                let is_stalled = self.random.bool();
                tell!(self, "stall {is_stalled}");
                self.sink.stall(is_stalled);
            }
            92 => {
                tell!(self, "a while passes");
                self.clock.advance(Duration::from_secs(self.random.u64(4..50)));
            }
            93..96 if self.lane.is_some() => self.kill(),
            96..98 if self.lane.is_some() => self.stop(),
            98 if self.lane.is_some() => self.begin_anew(),
            _ if self.lane.is_none() => self.start(),
            _ => self.some_turns(),
        }
    }

    fn finish(mut self) -> Result<(), String> {
        self.sink.stall(false);
        if self.lane.is_none() {
            self.start();
        }
        for _ in 0..20 {
            self.clock.advance(Duration::from_secs(1));
            self.world.fetch();
            self.turns(10_000);
        }
        tell!(self, "finish");
        if let Some((_, mode)) = &self.lane {
            mode.finish();
        }
        if !self.turns(100_000) {
            return Err("it does not come to an end".to_owned());
        }
        self.check_accounts();
        let events = self.sink.events.lock().unwrap();
        self.oracle.check(&events)
    }
}

fn run(world: &mut dyn World, seed: u64, tells: bool) -> Result<(), String> {
    let mut random = Rng::with_seed(seed);
    let rotation = if random.bool() { Rotation::AllMatch } else { Rotation::OneMatches };
    let mut run = Run {
        joins: random.u8(..3) == 0,
        rotation,
        world,
        clock: Clock::simulated(),
        checkpoint: Arc::new(Checkpoint::in_memory().unwrap()),
        sink: Arc::default(),
        lane: None,
        orders: Orders::new(Box::new(|| {})),
        accounts: Arc::default(),
        scratch: Scratch::default(),
        logs: Vec::new(),
        oracle: Oracle::default(),
        tells,
        random,
    };
    tell!(run, "{:?}, joins: {}", run.rotation, run.joins);
    for log in 0..run.random.usize(1..4) {
        let name = format!("app{log}.log");
        let file = run.world.create(&name);
        run.oracle.created(file, run.world.id(file), &name);
        run.logs.push(Log { name, file, next: 0, generation: 0, has_part: false, old: None });
    }
    run.start();
    for _ in 0..run.random.usize(10..120) {
        run.step();
    }
    let result = run.finish();
    result.map_err(|error| format!("{error}; run it again with WEIR_SEED={seed}"))
}

fn seeds(default: u64) -> Vec<u64> {
    let number = |name| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    match number("WEIR_SEED") {
        Some(seed) => vec![seed],
        None => (0..number("WEIR_SCHEDULES").unwrap_or(default)).collect(),
    }
}

fn run_all(default: u64, mut world: impl FnMut() -> Box<dyn World>) {
    let seeds = seeds(default);
    let tells = seeds.len() == 1;
    if tells {
        let _ = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::DEBUG)
            .with_writer(std::io::stderr)
            .without_time()
            .try_init();
    }
    let failed: Vec<_> = seeds.iter().filter_map(|seed| run(&mut *world(), *seed, tells).err()).collect();
    let shown = failed.iter().take(20).cloned().collect::<Vec<_>>().join("\n");
    assert!(failed.is_empty(), "{} of {} schedules failed:\n{shown}", failed.len(), seeds.len());
}

#[test]
fn thousands_of_schedules_on_a_simulated_file_system() {
    run_all(3000, || Box::new(Simulated::default()));
}

#[test]
fn hundreds_of_schedules_on_a_real_file_system() {
    run_all(300, || Box::new(Real::new()));
}

/// How often each token came out.
fn count_tokens(events: &[String]) -> HashMap<Token, u32> {
    let mut counts = HashMap::new();
    for event in events {
        assert!(!event.contains(SECRET), "a secret came out: {event}");
        for token in Token::all(event) {
            *counts.entry(token).or_default() += 1;
        }
    }
    counts
}
